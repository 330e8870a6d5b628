"""Reading ahead: the pages of a file come into memory with nobody reading them."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from pathlib import Path

import pytest
from waiting import until

from chatcli.models import read_ahead as module
from chatcli.models.read_ahead import read_ahead

SIZE = 8 << 20


def resident(path: Path) -> float:
    """The share of a file's pages that are in memory, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    pages = path.stat().st_size // mmap.PAGESIZE
    seen = ctypes.create_string_buffer(pages)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as memory:
        start = ctypes.c_char.from_buffer(memory)
        try:
            assert libc.mincore(ctypes.addressof(start), len(memory), seen) == 0
        finally:
            del start
    return sum(byte & 1 for byte in seen.raw) / pages


@pytest.fixture
def evicted(tmp_path: Path) -> Path:
    """A file on the disk of which nothing is in memory."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > 0.5:
        pytest.skip("this file system keeps its files in memory")
    return path


pytestmark = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system cannot be asked")


def test_the_files_come_into_memory_by_themselves(evicted: Path) -> None:
    read_ahead([evicted])
    until(lambda: resident(evicted) == 1.0)


def test_what_does_not_fit_into_memory_is_left_alone(evicted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = module.psutil.virtual_memory()._replace(available=SIZE - 1)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: full)
    read_ahead([evicted])
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "read-ahead"])
    assert resident(evicted) < 0.5


def test_a_missing_file_is_nobodys_trouble(tmp_path: Path) -> None:
    read_ahead([tmp_path / "gone.safetensors"])
    assert not list(tmp_path.iterdir())
