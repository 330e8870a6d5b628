"""Linear layers and experts whose weights are packed to int8, int4 or fp8: how they multiply.

torch's kernels serve where a device has one that answers as the formula does; elsewhere the weight is unpacked for
each product. It knows no model and no checkpoint.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatcli.load_request import Quantization
from chatcli.runtime.packing import GROUP, UNPACK, Parts, pack, pack_fp8, unpack_int4, unpack_scaled

_FEW = 64
"""Rows of input up to which torch's int8 kernel is faster than unpacking and multiplying (measured on AVX2)."""


class QuantizedLinear(nn.Linear):
    """A linear layer that `take`s its weight once and keeps it packed; `weight` then holds the codes."""

    quantization: ClassVar[Quantization]
    scale: Tensor
    zero: Tensor
    order: Tensor | None = None

    def take(self, weight: Tensor) -> None:
        """Pack `weight` (out, in) on the device it is on."""
        self.hold(pack(weight, self.quantization))

    def hold(self, parts: Parts, order: Tensor | None = None) -> None:
        """Keep a packed weight, whose columns are those of the input in `order`."""
        for name, part in zip(("weight", "scale", "zero"), parts, strict=False):
            self.register_parameter(name, nn.Parameter(part.contiguous(), requires_grad=False))
        self.order = order

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name in nn.Linear
        """`input` (..., in) times the weight, in the dtype of `input`."""
        rows = input.flatten(0, -2)
        rows = rows if self.order is None else rows[:, self.order]
        product: Tensor = self._product(rows).unflatten(0, input.shape[:-1]).to(input.dtype)
        return product if self.bias is None else product + self.bias

    @abstractmethod
    def _product(self, rows: Tensor) -> Tensor:
        """`rows` (n, in) times the weight: (n, out)."""


class Int8Linear(QuantizedLinear):
    """int8, a scale for each row."""

    quantization = "int8"

    def _product(self, rows: Tensor) -> Tensor:
        if len(rows) <= _FEW and has_kernel("int8", str(rows.device)):
            return _int8_kernel(rows, self.weight, self.scale)
        exact = rows.to(self.scale.dtype).to(rows.dtype)  # what the kernel reads, so that both answer alike
        return functional.linear(exact, self.weight.to(rows.dtype)) * self.scale[:, 0].to(rows.dtype)


class Int8Embedding(nn.Module):
    """The embedding whose weight is the output head's, too: it `take`s the weight once, for both.

    `weight` holds the codes and `scale` (words, 1) is in the dtype of what it gives.
    """

    quantization: ClassVar[Quantization] = "int8"
    weight: Tensor
    scale: Tensor

    def __init__(self, head: Int8Linear) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = head.out_features, head.in_features
        self.weight = head.weight
        self._head = (head,)  # no part of this one

    def take(self, weight: Tensor) -> None:
        """Pack `weight` (words, width) on the device it is on."""
        (head,) = self._head
        head.take(weight)
        self.scale = nn.Parameter(head.scale.to(weight.dtype), requires_grad=False)
        self.weight = head.weight

    def forward(self, ids: Tensor) -> Tensor:
        """The rows (..., width) of `ids` (...,)."""
        return self.weight[ids].to(self.scale.dtype) * self.scale[ids]


class Int4Linear(QuantizedLinear):
    """int4 in groups; laid out as the device's kernel reads it, where it has one."""

    quantization = "int4"
    _kernel = False

    def hold(self, parts: Parts, order: Tensor | None = None) -> None:
        """See `QuantizedLinear.hold`."""
        device = parts[0].device.type
        whole = not (self.out_features % 16 or self.in_features % (GROUP if device == "cpu" else 128))
        self._kernel = whole and has_kernel("int4", str(parts[0].device))
        super().hold(_int4_layout(*parts) if self._kernel else parts, order)

    def _product(self, rows: Tensor) -> Tensor:
        if self._kernel:
            return _int4_kernel(rows, self.weight, self.scale)
        parts = (self.weight, self.scale, self.zero)
        return functional.linear(rows, unpack_int4(parts, rows.dtype))


class Float8Linear(QuantizedLinear):
    """float8 with a scale for each row; the kernel rounds its input to float8, too, with a scale for each row."""

    quantization = "fp8"

    def _product(self, rows: Tensor) -> Tensor:
        if has_kernel("fp8", str(rows.device)):
            return _fp8_kernel(rows, self.weight, self.scale)
        return functional.linear(rows, unpack_scaled((self.weight, self.scale), rows.dtype))


LINEARS: dict[Quantization, type[QuantizedLinear]] = {"int8": Int8Linear, "int4": Int4Linear, "fp8": Float8Linear}


class QuantizedExperts(nn.Module):
    """The weights of one projection of all experts (experts, out, in), packed; indexing unpacks one expert's.

    It stands where transformers' classes of experts have a 3-D parameter, of which their plain forward pass takes
    one expert at a time.
    """

    def __init__(self, weight: Tensor, quantization: Quantization) -> None:
        super().__init__()
        self._unpack, self.dtype = UNPACK[quantization], weight.dtype
        for number, part in enumerate(pack(weight, quantization)):
            self.register_parameter(f"part{number}", nn.Parameter(part, requires_grad=False))

    def __getitem__(self, expert: Tensor | int) -> Tensor:
        return self._unpack(tuple(part[expert] for part in self.parameters()), self.dtype)


def _int8_kernel(rows: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    product: Tensor = torch.ops.aten._weight_int8pack_mm(rows.to(scale.dtype), codes, scale[:, 0])
    return product


def _int4_layout(codes: Tensor, scale: Tensor, zero: Tensor) -> Parts:
    """Codes and (groups, out, 2) scales with zeros, as `_int4_kernel` wants them on their device."""
    both = torch.stack((scale, zero), -1).transpose(0, 1).contiguous()
    if codes.device.type == "cpu":
        numbers = torch.stack((codes >> 4, codes & 15), -1).flatten(-2).to(torch.int32)
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1), both
    return torch.ops.aten._convert_weight_to_int4pack(codes, 8), both


def _int4_kernel(rows: Tensor, codes: Tensor, both: Tensor) -> Tensor:
    kernels = torch.ops.aten
    multiply = kernels._weight_int4pack_mm_for_cpu if rows.device.type == "cpu" else kernels._weight_int4pack_mm
    product: Tensor = multiply(rows.to(both.dtype), codes, GROUP, both)
    return product


def _fp8_kernel(rows: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    packed, each = pack_fp8(rows)
    return torch._scaled_mm(packed, codes.t(), each, scale.t(), out_dtype=torch.bfloat16)


_KERNELS: dict[Quantization, Callable[[Tensor, Parts], Tensor]] = {
    "int8": lambda rows, parts: _int8_kernel(rows, *parts),
    "int4": lambda rows, parts: _int4_kernel(rows, *_int4_layout(*parts)[:2]),
    "fp8": lambda rows, parts: _fp8_kernel(rows, *parts),
}


@cache
def has_kernel(quantization: Quantization, device: str) -> bool:
    """Whether torch's kernel exists on a device and answers as the formula does, within what rounding its input costs.

    On a CPU torch only imitates fp8.
    """
    if (quantization, device) == ("fp8", "cpu"):
        return False
    source = torch.Generator().manual_seed(0)
    weight, rows = (torch.randn(n, 128, generator=source).to(device, torch.bfloat16) for n in (64, 4))
    parts = pack(weight, quantization)
    expected = functional.linear(rows.float(), UNPACK[quantization](parts, torch.float32))
    try:
        found = _KERNELS[quantization](rows, parts).float()
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    return bool((found - expected).norm() <= 0.05 * expected.norm())
