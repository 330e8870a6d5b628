"""Building a model of tensors without memory, before its weights come, with no more than their shapes computed.

torch computes them with sympy at hand, which takes a fifth of a second to import: any number may be a symbol. In
random weights and the frequencies of RoPE there is none. It knows functions of torch; it knows no model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_WITH_A_NUMBER = frozenset({torch.Tensor.mul, torch.Tensor.div, torch.Tensor.__rdiv__, torch.Tensor.__rpow__})


class Unfilled(TorchFunctionMode):
    """Within it, tensors on the meta device are not filled, and what is computed of them is as empty."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.arange and str(kwargs.get("device")) == "meta" and all(type(each) is int for each in args):
            return torch.empty(len(range(*args)), dtype=kwargs.get("dtype") or torch.int64, device="meta")
        tensor = args[0] if args else kwargs.get("tensor")
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            if getattr(func, "__module__", "") == torch.nn.init.__name__:
                return tensor
            if _is_alike(func, tensor, args[1:]) and kwargs.keys() <= {"dtype", "device"}:
                return torch.empty(tensor.shape, **{"dtype": tensor.dtype, "device": tensor.device, **kwargs})
        return func(*args, **kwargs)


def _is_alike(func: object, tensor: torch.Tensor, others: tuple[object, ...]) -> bool:
    """Whether what a function makes of a tensor has its shape, type and layout."""
    if func is torch.empty_like:
        return tensor.is_contiguous()
    return func in _WITH_A_NUMBER and tensor.is_floating_point() and isinstance(others[0], (int, float))
