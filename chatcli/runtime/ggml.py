"""The block formats of ggml: packed bytes to numbers, in torch.

A block is a run of 32 or 256 numbers with scales of its own; the layouts are those of ggml-common.h
(https://github.com/ggml-org/ggml). Formats with code books (IQ1 to IQ3) and rare ones are left to the `gguf`
package. It knows no file and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from chatcli.errors import BrokenCheckpoint
from chatcli.models.gguf_file import BLOCKS

_CHUNK = 1 << 18
"""Numbers worked on at a time, so that what lies between stays in the processor's cache."""
_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the sixteen codes of IQ4 mean."""
_FP4 = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6)
"""What the sixteen codes of an E2M1 number mean."""


def unpack(data: Tensor, kind: str, dtype: torch.dtype) -> Tensor:
    """The numbers of `data`, bytes in the ggml format `kind`, as one row of `dtype`."""
    if kind in _PLAIN:
        return data.view(_PLAIN[kind]).to(dtype)
    numbers, size = BLOCKS[kind]
    blocks = data.view(-1, size)
    read = _READERS.get(kind) or _foreign(kind)
    made = torch.empty(blocks.shape[0], numbers, dtype=dtype, device=data.device)
    for part, out in zip(blocks.split(_CHUNK // numbers), made.split(_CHUNK // numbers), strict=True):
        out.copy_(read(part).view(-1, numbers))
    return made.view(-1)


def require_readable(kinds: Iterable[str]) -> None:
    """Pass over formats that can be read here.

    Raises:
        BrokenCheckpoint: one needs a package that is not installed.
    """
    for kind in kinds:
        if kind not in _PLAIN and kind not in _READERS:
            _foreign(kind)


def _foreign(kind: str) -> Callable[[Tensor], Tensor]:
    """The `gguf` package's own reading of a format, on the CPU."""
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise BrokenCheckpoint(
            f'Weights in the format {kind} need the package gguf: pip install "chatcli[gguf]", or choose a file in '
            "Q4_K_M or Q8_0."
        ) from error
    known = GGMLQuantizationType[kind]
    return lambda blocks: torch.from_numpy(dequantize(blocks.cpu().numpy(), known))


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of each block, as float32 in a column."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> Tensor:
    """(blocks, n, width) bytes to (blocks, n, 2, width): the low halves, then the high halves."""
    return torch.stack((packed & 15, packed >> 4), dim=-2)


def _fields(packed: Tensor, bits: int) -> Tensor:
    """(blocks, n, width) bytes to (blocks, n, 8 / bits, width): the lowest bits of all, then the next."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device).view(-1, 1)
    return (packed.unsqueeze(-2) >> shifts) & ((1 << bits) - 1)


def _fifth_bits(blocks: Tensor, start: int) -> Tensor:
    """(blocks, 1, 2, 16): bit i of four bytes, a little-endian number, belongs to number i."""
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    bits = (blocks[:, start : start + 4].unsqueeze(-1) >> shifts) & 1
    return bits.view(-1, 1, 2, 16)


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:].unsqueeze(1)).view(-1, 32).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    codes = _nibbles(blocks[:, 4:].unsqueeze(1)).view(-1, 32)
    return torch.addcmul(_half(blocks, 2), codes.float(), _half(blocks, 0))


def _q5_0(blocks: Tensor) -> Tensor:
    codes = _nibbles(blocks[:, 6:].unsqueeze(1)) | (_fifth_bits(blocks, 2) << 4)
    return (codes.view(-1, 32).float() - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    codes = _nibbles(blocks[:, 8:].unsqueeze(1)) | (_fifth_bits(blocks, 4) << 4)
    return torch.addcmul(_half(blocks, 2), codes.view(-1, 32).float(), _half(blocks, 0))


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks, 0)


def _q2_k(blocks: Tensor) -> Tensor:
    scales, half = blocks[:, :16], (_half(blocks, 80), _half(blocks, 82))
    codes = _fields(blocks[:, 16:80].reshape(-1, 2, 32), 2).reshape(-1, 16, 16).float()
    scale, low = half[0] * (scales & 15), half[1] * (scales >> 4)
    return codes * scale.unsqueeze(-1) - low.unsqueeze(-1)


def _q3_k(blocks: Tensor) -> Tensor:
    high = _fields(blocks[:, :32].reshape(-1, 1, 32), 1).reshape(-1, 16, 16)
    low = _fields(blocks[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    packed = blocks[:, 96:108]
    scales = _nibbles(packed[:, :8].unsqueeze(1)).view(-1, 16)
    scales = scales | (_fields(packed[:, 8:].unsqueeze(1), 2).reshape(-1, 16) << 4)
    scale = _half(blocks, 108) * (scales.float() - 32)
    # A bit that is not set takes four away.
    return (low.float() + high.float() * 4 - 4) * scale.unsqueeze(-1)


def _scales_of_eight(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Of twelve bytes the eight scales and eight minima of six bits each that Q4_K and Q5_K have."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scale = torch.cat((first & 63, (rest & 15) | ((first >> 6) << 4)), dim=1)
    low = torch.cat((second & 63, (rest >> 4) | ((second >> 6) << 4)), dim=1)
    return scale, low


def _q4_k(blocks: Tensor) -> Tensor:
    scale, low = _scales_of_eight(blocks[:, 4:16])
    codes = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32).float()
    return codes * (_half(blocks, 0) * scale).unsqueeze(-1) - (_half(blocks, 2) * low).unsqueeze(-1)


def _q5_k(blocks: Tensor) -> Tensor:
    scale, low = _scales_of_eight(blocks[:, 4:16])
    high = _fields(blocks[:, 16:48].reshape(-1, 1, 32), 1).view(-1, 8, 32)
    codes = (_nibbles(blocks[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32) | (high << 4)).float()
    return codes * (_half(blocks, 0) * scale).unsqueeze(-1) - (_half(blocks, 2) * low).unsqueeze(-1)


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).view(-1, 8, 32)
    high = _fields(blocks[:, 128:192].reshape(-1, 2, 32), 2).view(-1, 8, 32)
    codes = (low | (high << 4)).view(-1, 16, 16).float() - 32
    scale = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8)
    return codes * scale.unsqueeze(-1)


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _looked_up(_LEVELS, _nibbles(blocks[:, 2:].unsqueeze(1)).view(-1, 32)) * _half(blocks, 0)


def _iq4_xs(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[:, 4:8].unsqueeze(-1)).view(-1, 8)
    high = _fields(blocks[:, 2:4].unsqueeze(-1), 2).view(-1, 8)
    scale = _half(blocks, 0) * ((low | (high << 4)).float() - 32)
    codes = _nibbles(blocks[:, 8:].reshape(-1, 8, 16)).view(-1, 8, 32)
    return _looked_up(_LEVELS, codes) * scale.unsqueeze(-1)


def _mxfp4(blocks: Tensor) -> Tensor:
    exponent = blocks[:, :1].float() - 127
    return _looked_up(_FP4, _nibbles(blocks[:, 1:].unsqueeze(1)).view(-1, 32)) * torch.exp2(exponent)


def _looked_up(levels: tuple[float, ...], codes: Tensor) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32, device=codes.device)[codes.int()]


_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
_READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
}
