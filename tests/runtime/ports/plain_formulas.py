"""What the ports' tests share: tiny checkpoints under published names, and plain formulas in double precision.

Nothing here uses transformers but `difference`, which loads a folder as a user of transformers would.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- its usual name
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]
IDS = [5, 17, 3, 60, 41, 8, 8, 2, 33, 90, 11, 64, 7, 29, 50, 1]
STEPS = 4
"""The last ids of a text, which are fed one by one over the cache."""
AUTO_MAP = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}


class Random:
    """Tensors by their published names, the same ones in every run."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.weights: Weights = {}

    def matrix(self, name: str, rows: int, columns: int, *, bias: bool = False) -> None:
        self.weights[f"{name}.weight"] = torch.randn(rows, columns, generator=self._generator) / math.sqrt(columns)
        if bias:
            self.weights[f"{name}.bias"] = torch.randn(rows, generator=self._generator) / 4

    def embedding(self, name: str, rows: int, columns: int) -> None:
        self.weights[f"{name}.weight"] = torch.randn(rows, columns, generator=self._generator)

    def norm(self, name: str, width: int, *, bias: bool = False) -> None:
        self.weights[f"{name}.weight"] = 1 + torch.randn(width, generator=self._generator) / 4
        if bias:
            self.weights[f"{name}.bias"] = torch.randn(width, generator=self._generator) / 4


def write(folder: Path, config: Mapping[str, Any], weights: Weights) -> Path:
    """A folder as the family's repositories are, references to their code included."""
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": AUTO_MAP, "torch_dtype": "float32"}))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def doubled(weights: Weights) -> Weights:
    return {name: tensor.double() for name, tensor in weights.items()}


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def rms_norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weights[f"{name}.weight"]


def layer_norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weights[f"{name}.weight"] + weights.get(
        f"{name}.bias", 0
    )


def angles(length: int, width: int, theta: float = 10000.0) -> Tensor:
    """The rotary angle of every position and pair, (length, width / 2)."""
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.double) / width)
    return torch.arange(length, dtype=torch.double)[:, None] * frequencies


def turn_halves(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate (heads, length, width): component j together with j + half, in the first `2 * angle.shape[1]` of them."""
    n = angle.shape[1]
    first, second, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    c, s = angle.cos(), angle.sin()
    return torch.cat([first * c - second * s, second * c + first * s, rest], -1)


def turn_pairs(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate (heads, length, width): component 2j together with 2j + 1."""
    n = angle.shape[1]
    turned, rest = x[..., : 2 * n], x[..., 2 * n :]
    even, odd, c, s = turned[..., ::2], turned[..., 1::2], angle.cos(), angle.sin()
    return torch.cat([torch.stack([even * c - odd * s, odd * c + even * s], -1).flatten(-2), rest], -1)


def heads(x: Tensor, number: int) -> Tensor:
    """(length, number * width) as (number, length, width)."""
    return x.view(x.shape[0], number, -1).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; (heads, length, width), where several heads may share a key and value; (length, all)."""
    share = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(share, 0), v.repeat_interleave(share, 0)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    future = torch.ones(scores.shape[-2:]).triu(1).bool()
    return (scores.masked_fill(future, -math.inf).softmax(-1) @ v).transpose(0, 1).flatten(1)


def loaded(folder: Path) -> Any:
    """The checkpoint as transformers loads it when the ports are registered: no code, nothing missing."""
    from transformers import AutoModelForCausalLM

    from chatcli.runtime import ports

    ports.register()
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"] and not info["unexpected_keys"], info
    return model.eval()


def difference(folder: Path, plain: Callable[[list[int]], Tensor], ids: list[int] = IDS) -> float:
    """The largest |difference| of logits, at every position of a prompt and in `STEPS` cached steps after it."""
    from chatcli.runtime.kv import CACHE

    model, expected = loaded(folder), plain(ids)
    start = len(ids) - STEPS
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([ids[:start]]), use_cache=True)
        found = [out.logits[0]]
        for each in ids[start:]:
            out = model(input_ids=torch.tensor([[each]]), use_cache=True, **{CACHE: getattr(out, CACHE)})
            found.append(out.logits[0])
    logits = torch.cat(found).double()
    assert expected.abs().max() > 1, "the checkpoint says nothing"
    largest = float((logits - expected).abs().max())
    print(f"largest |difference| of logits: {largest:.1e} of {float(expected.abs().max()):.1f}")
    return largest
