"""Have the weight files read from the disk while the program still imports what will use them.

One thread reads them from end to end into nothing, so that the kernel's cache holds them: asked to fetch a file
(POSIX_FADV_WILLNEED), Linux fetches its first megabytes alone. It knows files and free memory, and no tensor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_CHUNK = 1 << 20


def read_ahead(files: Iterable[Path]) -> None:
    """Begin to read all of `files`, unless they would push each other out of the free memory again.

    Nobody has to wait for it: what is not read yet is read when it is used. Nothing is done where the system cannot
    say what it holds already (macOS, Windows).
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return
    with suppress(OSError):
        wanted = {path: path.stat().st_size for path in files}
        if sum(wanted.values()) <= psutil.virtual_memory().available:
            threading.Thread(target=_read, args=(wanted,), name="read-ahead", daemon=True).start()


def _read(wanted: dict[Path, int]) -> None:
    """Read what is not in memory yet, without holding up other threads."""
    into = [bytearray(_CHUNK)]
    with suppress(OSError):
        for path, size in wanted.items():
            with path.open("rb", buffering=0) as file:
                for start in range(0, size, _CHUNK):
                    if not _is_cached(file.fileno(), min(start + _CHUNK, size) - 1):
                        os.preadv(file.fileno(), into, start)


def _is_cached(descriptor: int, place: int) -> bool:
    """Whether a byte of a file is in memory, as a read that may not wait tells."""
    try:
        return bool(os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT))
    except BlockingIOError:
        return False
