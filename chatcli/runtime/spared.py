"""What importing a model of transformers need not bring in, for none of it serves a chat: a third of all its modules.

Marks on a few functions bring in torch's compiler; classes for models that processes share, tensors of that kind; the
sources of all models there are, 2,500 files, are read twice for the names in them; and 970 patterns rename the weights
of other families. Here these four are answered for; what is wanted in earnest later is had as ever. It knows modules
of transformers; it knows no model.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from chatcli.runtime.compiler import Compiler
from chatcli.torchrun import processes


def spare_imports() -> None:
    """Import transformers, before anybody has."""
    if "transformers" in sys.modules:
        return
    compiler = find_spec("torch._dynamo")
    if compiler and compiler.name not in sys.modules:
        Compiler(compiler, torch, {"_trace_wrapped_higher_order_op"}).stand_in()
    import transformers.utils

    if processes(os.environ) == 1:
        # What it hears first it remembers, and of this process it is true: nobody computes along.
        with _replaced(torch.distributed, "is_available", lambda: False):
            getattr(transformers.utils, "is_torch_distributed_available", bool)()
    for spare in (_read_names_once, _compile_renamings_late):
        with suppress(ImportError, AttributeError, TypeError):  # another release has other names
            spare()


def _read_names_once() -> None:
    """Tell `transformers.models` which class is in which file, as `transformers` has just found out.

    It would remember itself, but 128 folders, and there are 530.
    """
    import transformers
    from transformers.utils import import_utils

    prefix = "models."
    known = {
        name.removeprefix(prefix): set(classes)
        for name, classes in getattr(transformers, "_import_structure", {}).items()
        if name.startswith(prefix)
    }
    if known:
        with _replaced(import_utils, "define_import_structure", lambda _: {frozenset(): known}):
            import_module("transformers.models")


def _compile_renamings_late() -> None:
    """Have the names that weights have in old files compiled when a checkpoint of their family is loaded."""
    from transformers import conversion_mapping, core_model_loading

    with _replaced(core_model_loading, "re", SimpleNamespace(**{**vars(re), "compile": Uncompiled})):
        conversion_mapping.get_checkpoint_conversion_mapping("")  # it makes all of them to find one


class Uncompiled:
    """A pattern that is compiled when it is first used."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __deepcopy__(self, memo: object) -> Uncompiled:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._compiled: re.Pattern[str] = vars(self).get("_compiled") or re.compile(self.pattern)
        return getattr(self._compiled, name)


@contextmanager
def _replaced(module: ModuleType, name: str, function: object) -> Generator[None]:
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)
