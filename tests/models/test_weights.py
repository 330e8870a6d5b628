import json
import struct
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.weights import Tensor, read_header, shards, weights

ARRAYS = {
    "a": numpy.zeros((2, 3), dtype="float16"),
    "b": numpy.zeros((4,), dtype="float32"),
    "c": numpy.zeros((0,), dtype="int64"),
}


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint("x", folder, "", {"model_type": "llama"}, {})


def file(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def test_reads_what_safetensors_writes(tmp_path) -> None:
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = weights(checkpoint(tmp_path))
    assert found.format == "safetensors"
    assert found.tensors == {"a": Tensor("F16", (2, 3), 12), "b": Tensor("F32", (4,), 16), "c": Tensor("I64", (0,), 0)}
    assert found.bytes == 28


def test_reads_all_shards_of_an_index(tmp_path) -> None:
    for i, name in enumerate("ab"):
        save_file({name: ARRAYS[name]}, tmp_path / f"model-0000{i}.safetensors")
    index = {"weight_map": {"a": "model-00000.safetensors", "b": "model-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = weights(checkpoint(tmp_path))
    assert set(found.tensors) == {"a", "b"}
    assert len(found.files) == 2
    (tmp_path / "model-00001.safetensors").unlink()
    with pytest.raises(BrokenCheckpoint, match=r"model-00001\.safetensors is missing"):
        weights(checkpoint(tmp_path))


def test_bin_files_are_taken_by_their_size(tmp_path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK" + b"x" * 98)
    found = weights(checkpoint(tmp_path))
    assert (found.format, found.bytes, found.tensors) == ("bin", 100, {})
    save_file(ARRAYS, tmp_path / "model.safetensors")
    assert weights(checkpoint(tmp_path)).format == "safetensors"


def test_no_weights_at_all(tmp_path) -> None:
    with pytest.raises(BrokenCheckpoint, match="holds no weights"):
        weights(checkpoint(tmp_path))


WHOLE = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"1234", "cut off or no safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<html>404 Not Found</html>", "cut off or no safetensors"),
        (file(WHOLE, b"1234567"), "cut off: "),
        (file(WHOLE, b"123456789"), "1 bytes too long"),
        (file(b'{"w": ', b""), "damaged header"),
        (file([1]), "damaged header"),
        (file({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}), "damaged header"),
        (file({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"), "damaged header"),
        (file({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"12345678"), "damaged header"),
        (file({"w": {"dtype": "F32"}}), "damaged header"),
        (struct.pack("<Q", 2**63) + b"{}", "cut off or no safetensors"),
        (file(b"[" * 100_000), "damaged header"),
    ],
)
def test_damage_is_told_and_the_file_named(tmp_path, content: bytes, says: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpoint) as error:
        weights(checkpoint(tmp_path))
    assert says in str(error.value)
    assert str(path) in str(error.value)


@given(st.data())
@settings(deadline=None)
def test_every_truncation_is_noticed(tmp_path_factory, data) -> None:
    content = save({k: v for k, v in ARRAYS.items() if v.size})
    path = tmp_path_factory.mktemp("cut") / "model.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(BrokenCheckpoint):
        read_header(path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "{"])
def test_a_damaged_index(tmp_path, index: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(BrokenCheckpoint, match=r"index\.json"):
        shards(path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/model.safetensors", ".."])
def test_an_index_cannot_point_elsewhere(tmp_path, name: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(BrokenCheckpoint, match="do not trust"):
        shards(path)


@pytest.mark.parametrize("entry", [{"shape": [1], "data_offsets": [0, float("inf")]}, {"shape": [float("inf")]}])
def test_infinite_sizes_are_damage(tmp_path: Path, entry: dict[str, object]) -> None:
    """JSON as Python reads it has an Infinity, which no integer can be made of."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(file({"a": {"dtype": "F32", "data_offsets": [0, 4], **entry}}, b"1234"))
    with pytest.raises(BrokenCheckpoint, match="damaged header"):
        read_header(path)
