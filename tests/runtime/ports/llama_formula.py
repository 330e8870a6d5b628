"""Llama's formula with all that its relatives change, in double precision, and random weights for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from plain_formulas import Random, Weights, angles, attend, doubled, heads, linear, rms_norm, turn_halves
from torch import Tensor
from torch.nn.functional import silu

VOCABULARY, WIDTH, INNER, LAYERS, HEADS = 96, 48, 80, 3, 4
SIZES = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {
    **SIZES,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Formula:
    """What the families differ in; `names` are the published ones, {} standing for the layer."""

    names: Mapping[str, str]
    groups: int = HEADS
    theta: float = 10000.0
    divisors: tuple[float, ...] = ()
    """Of the rotary frequencies, one each."""
    norm: Callable[[Weights, str, Tensor, float], Tensor] = rms_norm
    embedding: float = 1.0
    residual: float = 1.0
    logits: float = 1.0
    slopes: tuple[float, ...] = ()
    """Of ALiBi, a head each; positions are rotary where there are none."""
    qkv: Callable[[Weights, str, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    """(heads, length, width) each, where the family fuses them."""

    def __call__(self, published: Weights, ids: list[int], inner_norm: float = 1e-5) -> Tensor:
        w, names = doubled(published), self.names
        x = w[names["embedding"] + ".weight"][ids] * self.embedding
        for i in range(LAYERS):
            at = {key: name.format(i) for key, name in names.items()}
            y = self.norm(w, at["before"], x, inner_norm)
            x = x + self.residual * linear(w, at["out"], self._attend(*self._qkv(w, at, y)))
            y = self.norm(w, at["between"], x, inner_norm)
            inner = silu(linear(w, at["gate"], y)) * linear(w, at["up"], y)
            x = x + self.residual * linear(w, at["down"], inner)
        return linear(w, names["head"], self.norm(w, names["last"], x, inner_norm) / self.logits)

    def _qkv(self, w: Weights, at: Mapping[str, str], y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.qkv:
            return self.qkv(w, at["fused"], y)
        counts = {"q": HEADS, "k": self.groups, "v": self.groups}
        q, k, v = (heads(linear(w, at[name], y), count) for name, count in counts.items())
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.slopes:
            turn = angles(q.shape[1], q.shape[2], self.theta)
            turn = turn / torch.tensor(self.divisors, dtype=torch.double) if self.divisors else turn
            return attend(turn_halves(q, turn), turn_halves(k, turn), v)
        place = torch.arange(q.shape[1], dtype=torch.double)
        fall = torch.tensor(self.slopes, dtype=torch.double)[:, None, None] * (place[None] - place[:, None])
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2]) + fall
        scores = scores.masked_fill(place[None] > place[:, None], -math.inf)
        return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


NAMES = {
    "embedding": "model.embed_tokens",
    "before": "model.layers.{}.input_layernorm",
    "q": "model.layers.{}.self_attn.q_proj",
    "k": "model.layers.{}.self_attn.k_proj",
    "v": "model.layers.{}.self_attn.v_proj",
    "out": "model.layers.{}.self_attn.o_proj",
    "between": "model.layers.{}.post_attention_layernorm",
    "gate": "model.layers.{}.mlp.gate_proj",
    "up": "model.layers.{}.mlp.up_proj",
    "down": "model.layers.{}.mlp.down_proj",
    "last": "model.norm",
    "head": "lm_head",
}


def make(
    names: Mapping[str, str],
    *,
    fused: int = 0,
    groups: int = HEADS,
    biases: tuple[str, ...] = (),
    norm_bias: bool = False,
    tied: bool = False,
    vocabulary: int = VOCABULARY,
) -> Weights:
    """Random weights under the published names; `fused` are the rows of a projection in place of q, k and v."""
    made, narrow = Random(), groups * WIDTH // HEADS
    made.embedding(names["embedding"], vocabulary, WIDTH)
    shapes = {"q": (WIDTH, WIDTH), "k": (narrow, WIDTH), "v": (narrow, WIDTH), "out": (WIDTH, WIDTH)}
    shapes |= {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER), "fused": (fused, WIDTH)}
    for i in range(LAYERS):
        for key in ("before", "between"):
            made.norm(names[key].format(i), WIDTH, bias=norm_bias)
        for key, shape in shapes.items():
            if key in names:
                made.matrix(names[key].format(i), *shape, bias=key in biases)
    made.norm(names["last"], WIDTH, bias=norm_bias)
    if not tied:
        made.matrix(names["head"], vocabulary, WIDTH)
    return made.weights
