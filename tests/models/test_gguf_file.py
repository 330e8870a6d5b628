import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.errors import BrokenCheckpoint, ModelNotFound
from chatcli.models.gguf_file import BLOCKS, part_names, read_gguf


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file(*, entries: list[bytes], tensors: list[bytes], data: bytes = b"", version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


ARCHITECTURE = entry("general.architecture", 8, text("llama"))
WORDS = entry("words", 9, struct.pack("<IQ", 8, 2) + text("a") + text("北京"))
NUMBERS = entry("numbers", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3))
GOOD = file(
    entries=[ARCHITECTURE, WORDS, NUMBERS, entry("half", 6, struct.pack("<f", 0.5)), entry("yes", 7, b"\1")],
    tensors=[tensor("a.weight", (32, 4), 8, 0), tensor("b.weight", (3,), 0, 160)],
    data=b"\0" * (4 * 34 + 24) + struct.pack("<3f", 1, 2, 3),
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_the_header_is_read(written) -> None:
    found = read_gguf(written(GOOD))
    assert found.architecture == "llama"
    assert found.metadata["words"] == ["a", "北京"]
    assert found.metadata["numbers"] == [1, -2, 3]
    assert (found.metadata["half"], found.metadata["yes"]) == (0.5, True)
    first, second = found.tensors["a.weight"], found.tensors["b.weight"]
    assert (first.kind, first.shape, first.bytes) == ("Q8_0", (4, 32), 4 * 34)
    content = second.file.read_bytes()[second.offset : second.offset + second.bytes]
    assert struct.unpack("<3f", content) == (1, 2, 3)


def test_the_sizes_of_blocks_are_those_of_ggml() -> None:
    import gguf

    assert {kind: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] for kind in BLOCKS} == dict(BLOCKS)


HUGE = 1 << 60


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\3\4" + b"\0" * 60, "no GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GG", "no GGUF file"),
        (b"GGUF\3\0", "cut off within its header"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (file(entries=[], tensors=[], version=1), "version 1"),
        (GOOD[:-4], "is cut off"),
        (GOOD[:120], "cut off within its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 1), "damaged header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), "damaged header"),
        (file(entries=[struct.pack("<Q", HUGE) + b"x" * 64], tensors=[]), "cut off within its header"),
        (file(entries=[entry("a", 9, struct.pack("<IQ", 0, HUGE))], tensors=[]), "a list of"),
        (file(entries=[entry("a", 9, struct.pack("<IQ", 8, 3_999_999))], tensors=[]), "cut off within its header"),
        (file(entries=[entry("a", 99, b"")], tensors=[]), "no type 99"),
        (file(entries=[entry("a", 9, struct.pack("<IQ", 9, 1))], tensors=[]), "no list of type 9"),
        (file(entries=[entry("general.alignment", 4, struct.pack("<I", 0))], tensors=[]), "alignment"),
        (file(entries=[], tensors=[tensor("a", (1,) * 5, 0, 0)]), "5 dimensions"),
        (file(entries=[], tensors=[tensor("a", (32,), 77, 0)]), "format 77"),
        (file(entries=[], tensors=[tensor("a", (33,), 8, 0)]), "no whole blocks"),
        (file(entries=[], tensors=[tensor("a", (HUGE, HUGE), 0, HUGE)]), "is cut off"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(written, content: bytes, says: str) -> None:
    path = written(content)
    tracemalloc.start()
    with pytest.raises(BrokenCheckpoint, match=says) as error:
        read_gguf(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert str(error.value).endswith(".")
    assert peak < 5_000_000


@given(st.data())
def test_no_damage_is_a_surprise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any bytes anywhere in a header end in a header or in a sentence."""
    content = bytearray(GOOD[: data.draw(st.integers(0, len(GOOD)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    path.write_bytes(bytes(content))
    try:
        found = read_gguf(path)
    except BrokenCheckpoint:
        return
    assert all(each.offset + each.bytes <= len(content) for each in found.tensors.values())


def test_a_split_model_is_one(tmp_path: Path) -> None:
    count = entry("split.count", 2, struct.pack("<H", 2))
    names = part_names("big-00001-of-00002.gguf")
    assert names == ("big-00001-of-00002.gguf", "big-00002-of-00002.gguf")
    for number, name in enumerate(names):
        entries = [ARCHITECTURE, count] if number == 0 else [count]
        part = file(entries=entries, tensors=[tensor(f"{number}.weight", (2,), 0, 0)], data=b"\0" * 8)
        (tmp_path / name).write_bytes(part)
    for name in names:
        found = read_gguf(tmp_path / name)
        assert [each.name for each in found.files] == list(names)
        assert {n: t.file.name for n, t in found.tensors.items()} == {"0.weight": names[0], "1.weight": names[1]}
        assert found.architecture == "llama"
    renamed = (tmp_path / names[0]).rename(tmp_path / "mine.gguf")
    with pytest.raises(BrokenCheckpoint, match="one of 2 parts"):
        read_gguf(renamed)
    with pytest.raises(BrokenCheckpoint, match=r"00001-of-00002\.gguf is missing"):
        read_gguf(tmp_path / names[1])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="There is no file"):
        read_gguf(tmp_path / "nothing.gguf")
