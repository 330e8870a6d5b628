"""Have the weight files read from the disk while the program still imports what will use them.

The kernel reads into its own cache and nothing waits for it. It knows files and free memory; it knows no tensor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def read_ahead(files: Iterable[Path]) -> None:
    """Ask the kernel for all of `files`, unless they would push each other out of the free memory again.

    A request only: where a system knows none (macOS, Windows), or refuses, the files are read when they are used.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        wanted = {path: path.stat().st_size for path in files}
        if sum(wanted.values()) > psutil.virtual_memory().available:
            return
        for path in wanted:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
