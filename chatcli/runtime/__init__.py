"""Where torch lives: loading weights, the KV cache, the decode loop, sampling.

Importing this package imports no torch yet; it prepares the process for that.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

_BEFORE_TORCH = {
    # Spinning OpenMP threads decode four to six times slower when another program wants a core.
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    # Our own progress is shown instead; the Hub hears nothing of us while a model loads.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "COMPRESSED_TENSORS_LOG_DISABLED": "true",
}
for _name, _value in _BEFORE_TORCH.items():
    os.environ.setdefault(_name, _value)
# Never a matter of taste: for `.bin` repositories transformers would ask a service on the Hub to convert them.
os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
for _name in ("bitsandbytes", "torchao"):  # they warn of what nobody can act on, at each start or in every layer
    logging.getLogger(_name).setLevel(logging.ERROR)
_M_ARENA_MAX = -8
"""glibc's number for it in malloc.h."""
if sys.platform == "linux":
    # With a heap for each thread the layers of a growing cache leave holes: a sixth more memory than is planned.
    with suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


_ONE_LOAD = threading.Lock()


@contextmanager
def loading() -> Generator[None]:
    """What importing torch and loading a model want: nobody else who does, and no garbage collection.

    transformers replaces methods of its classes while it loads and then puts back what it found: of two loads at once
    one finds the other's stand-ins, and leaves them for good. Collecting among a million lasting objects costs a
    third of the time.
    """
    with _ONE_LOAD:
        gc.disable()
        try:
            from chatcli.runtime.spared import spare_imports

            spare_imports()
            yield
        finally:
            gc.freeze()
            gc.enable()
