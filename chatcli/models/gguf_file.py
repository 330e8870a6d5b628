"""A GGUF file's header: its metadata and where its tensors lie, read without trust.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is held against what
the file has left, so that a hostile header costs no memory. It reads no tensor's data and knows no family.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint, ModelNotFound

BLOCKS: Mapping[str, tuple[int, int]] = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "F64": (1, 8), "I8": (1, 1), "I16": (1, 2), "I32": (1, 4),
    "I64": (1, 8), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
    "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74), "IQ3_XXS": (256, 98), "IQ1_S": (256, 50), "IQ4_NL": (32, 18),
    "IQ3_S": (256, 110), "IQ2_S": (256, 82), "IQ4_XS": (256, 136), "IQ1_M": (256, 56), "TQ1_0": (256, 54),
    "TQ2_0": (256, 66), "MXFP4": (32, 17),
}  # fmt: skip
"""ggml's types: how many numbers a block holds, and in how many bytes."""
QUANTISED = frozenset(BLOCKS) - {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}

_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ELEMENTS = 4_000_000
"""Elements that an array of the metadata may have; the largest vocabularies have a tenth of that."""
_MOST_DIMENSIONS = 4
# At most 999 parts: a name can claim a hundred thousand.
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>00\d{3})\.gguf", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor as the header tells: ggml's type, the shape in torch's order, and its bytes in one of the files."""

    kind: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """The metadata of a GGUF model and the tensors of all its files."""

    files: tuple[Path, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, GgufTensor] = field(repr=False)

    @property
    def architecture(self) -> str:
        """The family, as llama.cpp names it."""
        return str(self.metadata.get("general.architecture") or "")

    def of_family(self, key: str) -> Any:
        """A value of the metadata under the family's name; None where it is not said."""
        return self.metadata.get(f"{self.architecture}.{key}")


def part_names(name: str) -> tuple[str, ...]:
    """The names of all files of a split model of which `name` is one: the name itself where nothing is split."""
    found = _PART.fullmatch(name)
    if not found:
        return (name,)
    count, stem = int(found["count"]), found["stem"]
    if not 1 <= int(found["number"]) <= count:
        return (name,)
    return tuple(f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1))


def read_gguf(path: Path) -> GgufFile:
    """The header of a GGUF file, and of the others where the model is split.

    Raises:
        ModelNotFound: there is no such file.
        BrokenCheckpoint: it is no GGUF file, is cut off, or contradicts itself; or a part of it is missing.
    """
    names = part_names(path.name)
    files = tuple(path.with_name(name) for name in names)
    metadata: dict[str, Any] = {}
    tensors: dict[str, GgufTensor] = {}
    for file in files:
        if not file.is_file():
            if file == path:
                raise ModelNotFound(f"There is no file {path}: check the path.")
            raise BrokenCheckpoint(f"{file} is missing, one of the {len(files)} files of this model: get it, too.")
        said, part = _read(file)
        metadata = metadata or said
        tensors |= part
    expected = metadata.get("split.count")
    if isinstance(expected, int) and expected > len(files):
        raise BrokenCheckpoint(f"{path} is one of {expected} parts, and its name must say so: give it its own back.")
    return GgufFile(files, metadata, tensors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise BrokenCheckpoint(f"{path} is empty: download the model again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Header(path, content).read()
    except OSError as error:
        raise BrokenCheckpoint(f"{path} cannot be read ({error.strerror}): check its permissions.") from error


class _Header:
    """A place in a file's bytes that goes forward as they are read, and never beyond their end."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._size = len(content)
        self._place = 0

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        """Metadata and tensors."""
        self._require_magic()
        tensors, entries = self._number("Q"), self._number("Q")
        if tensors * 24 + entries * 13 > self._size:  # the least that each of them takes
            raise self._damaged(f"it claims {tensors} tensors and {entries} entries")
        metadata = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(self._number("I"))
        described = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._damaged(f"its alignment is {alignment!r}")
        start = math.ceil(self._place / alignment) * alignment
        return metadata, {each[0]: self._placed(start, *each) for each in described}

    def _require_magic(self) -> None:
        magic = self._content[:4]
        if magic != b"GGUF":
            pointer = self._content[:40].startswith(b"version https://git-lfs")
            what = "a Git LFS pointer: run `git lfs pull` in its folder" if pointer else "no GGUF file: check it"
            raise BrokenCheckpoint(f"{self._path} is {what}.")
        self._place = 4
        version = self._number("I")
        if version in (2, 3):
            return
        if version >= 1 << 16:
            raise BrokenCheckpoint(f"{self._path} is written for big-endian machines: get the little-endian file.")
        raise BrokenCheckpoint(
            f"{self._path} is of version {version} of GGUF, and 2 and 3 can be read: get a newer file of this model."
        )

    def _damaged(self, how: str) -> BrokenCheckpoint:
        return BrokenCheckpoint(f"{self._path} has a damaged header ({how}): download it again.")

    def _take(self, count: int) -> int:
        """Go forward by `count` bytes; returns where they begin."""
        begin, self._place = self._place, self._place + count
        if self._place > self._size:
            raise BrokenCheckpoint(f"{self._path} is cut off within its header: download it again.")
        return begin

    def _number(self, form: str) -> Any:
        return struct.unpack_from(f"<{form}", self._content, self._take(struct.calcsize(f"<{form}")))[0]

    def _string(self) -> str:
        length = int.from_bytes(self._content[(at := self._take(8)) : at + 8], "little")
        begin = self._take(length)
        # Vocabularies may hold pieces of characters.
        return self._content[begin : begin + length].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise self._damaged(f"there is no type {kind}")
        element, count = self._number("I"), self._number("Q")
        if count > _MOST_ELEMENTS:
            raise self._damaged(f"it claims a list of {count}")
        if element == _STRING:
            return [self._string() for _ in range(count)]
        if element not in _NUMBERS:
            raise self._damaged(f"there is no list of type {element}")
        form = f"<{count}{_NUMBERS[element]}"
        return list(struct.unpack_from(form, self._content, self._take(struct.calcsize(form))))

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int]:
        """A tensor's name, type, shape and where it begins, counted from the first."""
        name, dimensions = self._string(), self._number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise self._damaged(f"{name} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        number, offset = self._number("I"), self._number("Q")
        if number not in _TYPES:
            raise BrokenCheckpoint(
                f"{self._path} holds weights in the format {number} of ggml, which is not known here: choose a file in "
                "Q4_K_M or Q8_0."
            )
        return name, _TYPES[number], shape[::-1], offset  # ggml's first dimension is the innermost

    def _placed(self, start: int, name: str, kind: str, shape: tuple[int, ...], offset: int) -> GgufTensor:
        numbers, size = BLOCKS[kind]
        if (shape[-1] if shape else 1) % numbers:
            raise self._damaged(f"the rows of {name} are no whole blocks of {kind}")
        length = math.prod(shape) // numbers * size
        if start + offset + length > self._size:
            raise BrokenCheckpoint(
                f"{self._path} is cut off: {self._size} of at least {start + offset + length} bytes are here; "
                "download it again."
            )
        return GgufTensor(kind, shape, self._path, start + offset, length)
