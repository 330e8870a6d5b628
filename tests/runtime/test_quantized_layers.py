"""Packed weights: the layers against the formula, and against what the packing libraries themselves compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from chatcli.errors import ModelError
from chatcli.load_request import Quantization
from chatcli.runtime.packing import UNPACK, pack
from chatcli.runtime.quantized_files import FilesConfig, Packed
from chatcli.runtime.quantized_layers import LINEARS, QuantizedExperts, has_kernel

GOLDEN = Path(__file__).parent.parent / "golden" / "packed"
STEPS: dict[Quantization, float] = {"int8": 2 / 254, "int4": 1 / 15}
"""How far apart neighbouring codes are at most, as a share of the range of their weights."""


def away(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach().float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("quantization", STEPS)
def test_a_packed_weight_is_at_most_half_a_step_from_the_weight(quantization: Quantization) -> None:
    torch.manual_seed(0)
    weight = torch.rand(48, 96) * 3 - 1
    unpacked = UNPACK[quantization](pack(weight, quantization), torch.float32)
    span = float(weight.max() - weight.min()) if quantization == "int4" else float(2 * weight.abs().max())
    assert float((unpacked - weight).abs().max()) <= span * STEPS[quantization] * 0.6  # scales are rounded to bfloat16


def test_rows_of_zeros_and_huge_rows_stay_numbers() -> None:
    weight = torch.cat((torch.zeros(16, 64), torch.full((16, 64), 1e30), torch.randn(16, 64)))
    for quantization, unpack in UNPACK.items():
        unpacked = unpack(pack(weight, quantization), torch.float32)
        assert unpacked.isfinite().all()
        assert (unpacked[:16] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(32, 64), (24, 96), (7, 32)], ids=str)
@pytest.mark.parametrize("quantization", LINEARS)
def test_a_layer_multiplies_by_the_unpacked_weight(
    quantization: Quantization, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Few rows and many take different ways, and a shape that the kernels do not know another."""
    torch.manual_seed(1)
    weight, bias = torch.randn(*shape), torch.randn(shape[0])
    layer = LINEARS[quantization](shape[1], shape[0], dtype=dtype)
    layer.bias = nn.Parameter(bias.to(dtype))
    layer.take(weight.to(dtype))
    unpacked = UNPACK[quantization](pack(weight.to(dtype), quantization), torch.float32)
    for count in (1, 5, 100):
        rows = torch.randn(2, count, shape[1], dtype=dtype)
        found = layer(rows)
        assert found.dtype == dtype
        assert away(found, rows.float() @ unpacked.t() + bias) < 0.006  # results of bfloat16: 2 ** -8 and less


def test_a_large_weight_is_packed_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(40, 64)
    whole = pack(weight, "int4")
    monkeypatch.setattr("chatcli.runtime.packing._AT_ONCE", 256)
    assert all(torch.equal(a, b) for a, b in zip(pack(weight, "int4"), whole, strict=True))


def test_experts_are_unpacked_one_at_a_time() -> None:
    weight = torch.randn(3, 16, 64)
    for quantization, unpack in UNPACK.items():
        experts = QuantizedExperts(weight, quantization)
        assert torch.equal(experts[torch.tensor(1)], unpack(pack(weight[1], quantization), torch.float32))


def test_the_kernels_of_a_cpu_are_used() -> None:
    assert has_kernel("int8", "cpu")
    assert has_kernel("int4", "cpu")
    assert not has_kernel("fp8", "cpu")  # it would only be imitated


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("quantization", LINEARS)
def test_a_layer_on_a_gpu_multiplies_by_the_unpacked_weight(quantization: Quantization) -> None:
    torch.manual_seed(1)
    weight = torch.randn(256, 512, device="cuda", dtype=torch.bfloat16)
    layer = LINEARS[quantization](512, 256, bias=False, device="cuda", dtype=torch.bfloat16)
    layer.take(weight)
    unpacked = UNPACK[quantization](pack(weight, quantization), torch.float32)
    for count in (1, 100):
        rows = torch.randn(count, 512, device="cuda", dtype=torch.bfloat16)
        limit = 0.05 if quantization == "fp8" else 0.01  # the fp8 kernel rounds its input, too
        assert away(layer(rows), rows.float() @ unpacked.t()) < limit


@pytest.mark.parametrize("name", ["gptq-4-bits", "gptq-4-bits-act-order", "gptq-8-bits", "awq-4-bits"])
def test_what_the_libraries_packed_is_read(name: str) -> None:
    """The tensors were packed by AutoGPTQ 0.7.1 and AutoAWQ 0.2.9, and unpacked by them: `expected` (out, in)."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    expected = tensors.pop("expected")
    form, bits = name.split("-")[:2]
    packed = Packed(nn.Linear(64, 32, bias=False), tensors)
    layer = packed.unpacked(FilesConfig(format=form, bits=int(bits)))
    assert away(layer(torch.eye(64)).t(), expected) < 0.006


@pytest.mark.parametrize(
    ("said", "words"),
    [({"format": "gptq", "bits": 3}, "GPTQ with 3 bits"), ({"format": "awq", "version": "gemv"}, "AWQ.*gemv")],
)
def test_a_layout_that_is_not_read_is_one_sentence(said: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        FilesConfig(**said)
