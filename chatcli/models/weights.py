"""What weights a checkpoint holds, told from its file headers alone.

Finds damage before a load begins: a cut-off file, a missing shard, a Git LFS pointer in a weight's
place. It reads no tensor data and knows nothing of torch; of a `.bin` file it knows the size only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint, read_json

_MAX_HEADER = 100_000_000
_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I8": 8, "U8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
_LFS = b"version https://git-lfs.github.com/"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as its header tells: safetensors' or ggml's name of the dtype, the shape, the size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Weights:
    """All weight files; `tensors` is empty for `.bin`, whose headers are pickles and stay unread."""

    format: Literal["safetensors", "bin", "gguf"]
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all tensors, or of the files where the tensors are unknown."""
        return sum(t.bytes for t in self.tensors.values()) or sum(f.stat().st_size for f in self.files)


def weights(checkpoint: Checkpoint) -> Weights:
    """The checkpoint's weight files, safetensors before `.bin`, or its GGUF files; each one checked.

    Raises:
        BrokenCheckpoint: no weights, a missing shard, or a damaged file; always names the file.
    """
    if file := checkpoint.gguf:
        found = {name: Tensor(each.kind, each.shape, each.bytes) for name, each in file.tensors.items()}
        return Weights("gguf", file.files, found)
    folder = checkpoint.folder
    for form, stem, suffix in (("safetensors", "model", ".safetensors"), ("bin", "pytorch_model", ".bin")):
        files = _files(folder, stem, suffix)
        if not files:
            continue
        if form == "bin":
            for path in files:
                _check_body(path)
            return Weights("bin", files)
        tensors: dict[str, Tensor] = {}
        for path in files:
            tensors |= read_header(path)
        return Weights("safetensors", files, tensors)
    raise BrokenCheckpoint(f"{folder} holds no weights (model.safetensors or pytorch_model.bin): download it again.")


def shards(index: Path) -> tuple[str, ...]:
    """The file names that a `*.index.json` refers to.

    Raises:
        BrokenCheckpoint: the index is damaged, or points outside its own folder.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BrokenCheckpoint(f"{index} has no weight_map: download the model again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or name == ".." or "\\" in name:
            raise BrokenCheckpoint(f"{index} names {name}, which is not beside it: do not trust this checkpoint.")
    return tuple(names)


def _files(folder: Path, stem: str, suffix: str) -> tuple[Path, ...]:
    single, index = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
    if single.is_file():
        return (single,)
    if not index.is_file():
        return ()
    paths = tuple(folder / name for name in shards(index))
    for path in paths:
        if not path.is_file():
            raise BrokenCheckpoint(f"{path} is missing, though {index.name} lists it: download the model again.")
    return paths


def _check_body(path: Path) -> None:
    """Refuse what is visibly no weight file: empty, or the pointer that Git leaves without Git LFS."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise BrokenCheckpoint(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    if not start:
        raise BrokenCheckpoint(f"{path} is empty: download the model again.")
    if start == _LFS:
        raise BrokenCheckpoint(f"{path} is a Git LFS pointer and no weights: run `git lfs pull` in its folder.")


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file: 8 bytes little-endian length, then JSON, then the data.

    The format is https://github.com/huggingface/safetensors#format; the bounds are checked here,
    since a cut-off download must be told from a bug.

    Raises:
        BrokenCheckpoint: the file is cut off or its header contradicts its size.
    """
    _check_body(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise BrokenCheckpoint(f"{path} is cut off or no safetensors file ({size} bytes): download it again.")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        entries = {name: _tensor(entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise BrokenCheckpoint(f"{path} has a damaged header: download it again.") from error
    need = 8 + length + max((end for _, end in entries.values()), default=0)
    if need != size:
        state = f"cut off: {size} of {need} bytes are here" if need > size else f"{size - need} bytes too long"
        raise BrokenCheckpoint(f"{path} is {state}; download it again.")
    return {name: tensor for name, (tensor, _) in entries.items()}


def _tensor(entry: Mapping[str, Any]) -> tuple[Tensor, int]:
    """One header entry, with where its data ends. Raises ValueError where size and shape disagree."""
    shape = tuple(int(n) for n in entry["shape"])
    start, end = (int(n) for n in entry["data_offsets"])
    bits = _BITS.get(str(entry["dtype"]))
    if min(shape, default=0) < 0 or not 0 <= start <= end:
        raise ValueError("negative sizes")
    if bits is not None and (math.prod(shape) * bits + 7) // 8 != end - start:
        raise ValueError("size and shape disagree")
    return Tensor(str(entry["dtype"]), shape, end - start), end
