"""How weights are packed to int8, int4 and fp8: numbers in, codes with scales out, and back.

Rounded to nearest: int8 and fp8 with a scale for each row, int4 with a scale and a zero for each group of 32. It knows
no layer and no kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from chatcli.load_request import Quantization

GROUP = 32
"""Weights of an int4 row that share a scale and a zero."""
_AT_ONCE = 2**20
"""Weights that are packed at a time: large temporary tensors would leave holes in the heap that nothing fills."""

Parts: TypeAlias = tuple[Tensor, ...]


def pack_int8(weight: Tensor) -> Parts:
    """Codes in -127..127 and a scale for each row (..., 1): weight = code * scale."""
    scale = (weight.abs().amax(-1, keepdim=True).float() / 127).clamp(min=1e-12).bfloat16()
    return (weight.float() / scale.float()).round().clamp(-127, 127).to(torch.int8), scale


def pack_int4(weight: Tensor) -> Parts:
    """Codes in 0..15, two to a byte, the first in the high half; scale and zero (..., groups).

    weight = (code - 8) * scale + zero, as torch's int4 kernels read them.
    """
    groups = weight.float().unflatten(-1, (-1, GROUP))
    low, high = groups.aminmax(dim=-1)
    scale = ((high - low) / 15).clamp(min=1e-12).bfloat16()
    zero = (low + scale.float() * 8).bfloat16()
    codes = ((groups - zero.float()[..., None]) / scale.float()[..., None]).round().add(8).clamp(0, 15)
    return pack_codes(codes.flatten(-2)), scale, zero


def pack_codes(codes: Tensor) -> Tensor:
    """Two int4 codes to a byte, the first in the high half."""
    codes = codes.to(torch.uint8)
    return codes[..., ::2] << 4 | codes[..., 1::2]


def pack_fp8(weight: Tensor) -> Parts:
    """float8_e4m3fn, whose largest number is 448, and a scale for each row (..., 1): weight = code * scale."""
    scale = (weight.abs().amax(-1, keepdim=True).float() / 448).clamp(min=1e-12)
    return (weight.float() / scale).to(torch.float8_e4m3fn), scale


def unpack_scaled(parts: Parts, dtype: torch.dtype) -> Tensor:
    """The weight of int8 or fp8 parts."""
    codes, scale = parts
    return codes.to(dtype) * scale.to(dtype)


def unpack_int4(parts: Parts, dtype: torch.dtype) -> Tensor:
    """The weight of int4 parts."""
    codes, scale, zero = parts
    numbers: Tensor = torch.stack((codes >> 4, codes & 15), -1).flatten(-2).to(dtype) - 8
    groups: Tensor = numbers.unflatten(-1, (-1, GROUP))
    return (groups * scale[..., None].to(dtype) + zero[..., None].to(dtype)).flatten(-2)


PACK: dict[Quantization, Callable[[Tensor], Parts]] = {"int8": pack_int8, "int4": pack_int4, "fp8": pack_fp8}
UNPACK: dict[Quantization, Callable[[Parts, torch.dtype], Tensor]] = {
    "int8": unpack_scaled,
    "int4": unpack_int4,
    "fp8": unpack_scaled,
}


def pack(weight: Tensor, quantization: Quantization) -> Parts:
    """The parts of a weight (..., out, in), packed some rows at a time."""
    rows = weight.flatten(0, -2)
    packed = [PACK[quantization](some) for some in rows.split(max(_AT_ONCE // rows.shape[-1], 1))]
    return tuple(torch.cat(part).unflatten(0, weight.shape[:-1]) for part in zip(*packed, strict=True))
