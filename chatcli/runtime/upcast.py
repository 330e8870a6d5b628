"""On a processor without bfloat16 of its own: many rows are multiplied in float32, the weights stay in bfloat16.

A token reads half of what float32 weights would cost, at nearly the memory's rate; but a whole prompt takes torch nine
times as long as with float32, for without that hardware its bfloat16 product is a plain loop. So the weights of one
layer at a time are widened while a prompt is read. It knows linear layers; no model.
"""

from __future__ import annotations

from typing import Any

import torch

ROWS = 6
"""From so many on, widening the weights first is the faster way; below, it reads more than it saves."""


class UpcastLinear(torch.nn.Linear):
    """A linear layer whose products of many rows are computed in float32 and rounded once, at the end."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        """Products (..., out) of rows (..., in)."""
        if input.shape[:-1].numel() < ROWS:
            return torch.nn.functional.linear(input, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.float()
        return torch.nn.functional.linear(input.float(), self.weight.float(), bias).to(input.dtype)


def upcast_prompts(model: Any) -> None:
    """Let the linear layers of `model` that are bfloat16 on a CPU without it read prompts in float32."""
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for layer in model.modules():
        if (
            type(layer) is torch.nn.Linear
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.bfloat16
        ):
            layer.__class__ = UpcastLinear
