"""Matrices that families fuse, cut into the ones a native class has, while they load. It knows no name of a weight."""

from __future__ import annotations

from typing import Any

import torch
from transformers.core_model_loading import ConversionOps, WeightConverter


class SplitHeads(ConversionOps):
    """Cuts rows that lie group by group, each with its rows of every target: queries of a group, its key, its value.

    Groups are the key and value heads. The rows of each target are those of the parameter it becomes.
    """

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        (value,) = input_dict.values()
        fused = value[0] if isinstance(value, list) else value
        first, model, groups = str(kwargs["full_layer_name"]), kwargs["model"], kwargs["config"].num_key_value_heads
        names = [first.replace(target_patterns[0], name) for name in target_patterns]
        rows = [model.get_parameter(name).shape[0] // groups for name in names]
        pieces = fused.unflatten(0, (groups, sum(rows))).split(rows, dim=1)
        return {name: piece.flatten(0, 1).contiguous() for name, piece in zip(target_patterns, pieces, strict=True)}


def split_heads(fused: str, into: list[str]) -> list[WeightConverter]:
    """The converters of a fused projection, its weight and its bias, where it has one."""
    return [
        WeightConverter(rf"{fused}\.{part}$", [f"{name}.{part}" for name in into], [SplitHeads()])
        for part in ("weight", "bias")
    ]
