"""ChatGLM's own int8 and int4 weights, made floating point again while they load.

A row of a matrix has one scale: w = q * scale, without a zero point. int4 keeps two columns in a byte, the even one
in the high half, in two's complement. This module knows no name of a weight.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.core_model_loading import ConversionOps


def unpack(packed: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    """The matrix (rows, columns) in the type of `scale` (rows,) that `packed`, int8, stands for."""
    if bits == 4:
        # Shifts of signed bytes carry the sign with them.
        packed = torch.stack((packed >> 4, (packed << 4) >> 4), dim=-1).flatten(-2)
    return packed.to(scale.dtype) * scale[:, None]


class Unpack(ConversionOps):
    """Takes a weight and, in quantised checkpoints, its scale; gives the weight in floating point.

    The sources of the converter are the weight and the scale, in this order.
    """

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        found = {name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()}
        weight, scale = (found.get(pattern) for pattern in source_patterns)
        if weight is None:
            raise ValueError("a weight_scale has no weight")
        if scale is not None:
            # The loader has cast the bytes to the model's type, which holds them exactly.
            weight = unpack(weight.to(torch.int8), scale, kwargs["config"].quantization_bit)
        return {target_patterns[0]: weight}


class SplitRows(ConversionOps):
    """Cuts a fused weight or bias into its targets, each with as many rows as the parameter it becomes.

    Its targets are the converter's and `more`: a converter of two sources may name one target only in transformers
    before 5.23.
    """

    def __init__(self, *more: str) -> None:
        self._more = more

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        (value,) = input_dict.values()
        fused = value[0] if isinstance(value, list) else value
        first, model = str(kwargs["full_layer_name"]), kwargs["model"]
        targets = [*target_patterns, *self._more]
        rows = [model.get_parameter(first.replace(targets[0], name)).shape[0] for name in targets]
        return {name: piece.contiguous() for name, piece in zip(targets, fused.split(rows), strict=True)}
