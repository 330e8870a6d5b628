"""How large a model on disk is, how much of it is still missing, and when it was used.

Sizes are in bytes; what several revisions share counts once. Knows files, not what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chatcli.errors import BrokenCheckpoint
from chatcli.models.cache import is_complete, pull_note
from chatcli.models.checkpoint import read_json
from chatcli.models.gguf_file import part_names
from chatcli.models.inventory import Found

_WEIGHTS = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class Extent:
    """What a model takes on the disk; `wanted` is what the whole one takes where it is not whole, 0 where unknown.

    `read` is the file by whose access time one sees when the model was used: its largest.
    """

    bytes: int
    whole: bool
    wanted: int = 0
    read: str = ""


def extent(found: Found) -> Extent:
    """How much of a model is here."""
    if found.is_gguf:
        parts = _parts(found.path)
        here = sum(size for _, size in parts)
        return Extent(here, len(parts) == len(part_names(found.path.name)), read=str(found.path))
    files = dict(_files(found.path))
    largest = max((f for f in files if f.endswith(_WEIGHTS)), key=files.__getitem__, default="")
    taken = size_of(found.owner)
    here, wanted = _noted(found) if found.source == "hub" else (0, 0)
    if here < wanted:
        return Extent(here, False, wanted, largest)
    if is_complete(found.path):
        return Extent(taken, True, read=largest)
    return Extent(taken, False, _indexed(found.path), largest)


def last_used(read: str) -> float:
    """When a file was last read, as the system notes it: seconds since 1970, 0 where it is not there."""
    try:
        return os.stat(read).st_atime if read else 0.0  # noqa: PTH116  a Path costs more than the call
    except OSError:
        return 0.0


def size_of(owner: Path) -> int:
    """What a model takes with all its revisions: their links count nothing, what they lead to counts once."""
    if owner.is_file():
        return sum(size for _, size in _parts(owner))
    return sum(size for _, size in _files(owner, links=False))


def _parts(first: Path) -> list[tuple[Path, int]]:
    """Those files of one GGUF model that are here, with their sizes."""
    parts = []
    for name in part_names(first.name):
        with suppress(OSError):
            parts.append((first.with_name(name), first.with_name(name).stat().st_size))
    return parts


def _files(folder: Path, *, links: bool = True) -> Iterator[tuple[str, int]]:
    """Every file below a folder with its size; of `links` the size of what they lead to. Broken ones are left out."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), links=links)
            elif links or folder.name == "blobs" or not entry.is_symlink():  # a blob may lie in a store that all share
                yield entry.path, entry.stat().st_size


def _noted(found: Found) -> tuple[int, int]:
    """How many bytes of an unfinished download are here, and of how many; 0 of 0 where none is under way."""
    note = pull_note(found.owner)
    if not note.is_file():
        return 0, 0
    try:
        said = read_json(note)
        sizes = {str(name): int(size) for name, size in said["files"].items()}
    except (BrokenCheckpoint, KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return 0, 0
    if said.get("commit") != found.commit:
        return 0, 0
    here = sum(size for name, size in sizes.items() if (found.path / name).exists())
    begun = sum(size for name, size in _files(found.owner / "blobs") if name.endswith(".incomplete"))
    wanted = sum(sizes.values())
    return min(here + begun, wanted), wanted


def _indexed(folder: Path) -> int:
    """The bytes that a checkpoint's index says its weights have; 0 where it says nothing."""
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        with suppress(
            BrokenCheckpoint, AttributeError, OverflowError, ValueError
        ):  # no object; no number that is a size
            if (folder / name).is_file():
                total = read_json(folder / name).get("metadata", {}).get("total_size")
                return int(total) if isinstance(total, int | float) else 0
    return 0
