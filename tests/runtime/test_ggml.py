import sys

import gguf
import numpy
import pytest
import torch
from gguf.quants import dequantize

from chatcli.errors import BrokenCheckpoint
from chatcli.models.gguf_file import BLOCKS, QUANTISED
from chatcli.runtime.ggml import require_readable, unpack


def blocks(kind: str, rows: int = 40) -> numpy.ndarray:
    """Random bytes, with scales that are numbers; enough of them for more than one chunk at 256 numbers a block."""
    numbers, size = BLOCKS[kind]
    made = numpy.random.default_rng(1).integers(0, 256, (rows, 8192 // numbers * size), dtype=numpy.uint8)
    if kind == "MXFP4":  # so that no exponent overflows
        made.reshape(-1, size)[:, 0] = made.reshape(-1, size)[:, 0] // 4 + 90
    return made


@pytest.mark.parametrize("kind", sorted(QUANTISED))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_blocks_are_unpacked_as_ggml_does(kind: str) -> None:
    data = blocks(kind)
    expected = dequantize(data, gguf.GGMLQuantizationType[kind])
    found = unpack(torch.from_numpy(data).view(-1), kind, torch.float32).view(expected.shape).numpy()
    assert numpy.isfinite(expected).mean() > 0.9
    numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_plain_numbers_are_cast(kind: str, dtype: torch.dtype) -> None:
    stored = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
    numbers = torch.randn(64).to(stored)
    assert torch.equal(unpack(numbers.view(torch.uint8), kind, dtype), numbers.to(dtype))


def test_what_is_unpacked_is_rounded_once() -> None:
    data = torch.from_numpy(blocks("Q8_0")).view(-1)
    whole = unpack(data, "Q8_0", torch.float32)
    assert torch.equal(unpack(data, "Q8_0", torch.bfloat16).nan_to_num(), whole.bfloat16().nan_to_num())


def test_formats_with_code_books_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_readable(BLOCKS)
    monkeypatch.setitem(sys.modules, "gguf", None)
    require_readable({"F32", "BF16", "Q4_K", "Q8_0", "IQ4_XS", "MXFP4"})
    with pytest.raises(BrokenCheckpoint, match=r'IQ2_XXS need the package gguf: pip install "chatcli\[gguf\]"'):
        require_readable({"IQ2_XXS"})
