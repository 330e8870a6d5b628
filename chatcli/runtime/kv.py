"""The KV cache of one talk, keyed by the token ids it was computed from.

A cache and nothing else: the conversation is the truth, and what cannot be reused is computed again.
It knows transformers' cache layers; it knows no text, no template and no sampling.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache" if "cache" in inspect.signature(CausalLMOutputWithPast).parameters else "past_key_values"
"""How models call the cache they are given: transformers 5.24 renamed it."""


class PrefixCache:
    """Keys and values of a token sequence, of which the longest common prefix serves the next one.

    Attributes:
        ids: the token ids whose keys and values are held, in order.
        layers: transformers' cache, to be passed to `model.forward`.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self._config = config
        self.clear()

    def clear(self) -> None:
        """Forget everything and free its memory."""
        self.ids: list[int] = []
        self.layers = DynamicCache(config=self._config)

    @property
    def is_plain(self) -> bool:
        """Whether every layer holds keys and values of single tokens, and no running state."""
        return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in self.layers.layers)

    def keep_common_prefix(self, ids: Sequence[int], undivided: int = 0) -> int:
        """Cut the cache down to what it shares with `ids`, less the last id, which must be fed.

        The first `undivided` ids see each other, so what was computed for them holds only where all of them are
        shared. Returns how many ids need not be fed again. Layers that cannot be cut (a sliding window that has
        moved on, a recurrent state) make that 0, unless nothing needs to be cut.
        """
        shared = _common_prefix(self.ids, ids)
        length = min(shared, len(ids) - 1) if shared >= undivided else 0
        if not cut(self.layers, len(self.ids) - length):
            self.clear()
            return 0
        del self.ids[length:]
        return length

    @contextmanager
    def feeding(self, ids: Sequence[int]) -> Generator[DynamicCache]:
        """Hold the cache while a forward pass adds `ids`; one that is broken off leaves it empty."""
        try:
            yield self.layers
        except BaseException:
            self.clear()
            raise
        self.ids.extend(ids)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))


def cut(cache: DynamicCache, tokens: int) -> bool:
    """Remove the last `tokens` tokens from every layer; False, and nothing done, where one cannot.

    `Cache.crop` changed its meaning between releases of transformers, so the tensors are cut here.
    """
    if tokens == 0:
        return True
    every: list[Any] = list(cache.layers)
    # A layer with a running state has no such attribute, and cannot be cut.
    layers = [layer for layer in every if getattr(layer, "is_initialized", True)]
    if not all(_can_be_cut(layer) for layer in layers):
        return False
    for layer in layers:
        layer.keys = layer.keys[..., :-tokens, :]
        layer.values = layer.values[..., :-tokens, :]
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length -= tokens
    return True


def _can_be_cut(layer: object) -> bool:
    """Whether a layer still holds every token it has seen, in order, and nothing else."""
    if type(layer) is DynamicSlidingWindowLayer:
        return bool(layer.cumulative_length < layer.sliding_window)
    return type(layer) is DynamicLayer
