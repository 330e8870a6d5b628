"""The KV cache of one talk, keyed by the token ids it was computed from.

A cache and nothing else: the conversation is the truth, and what cannot be reused is computed again.
It knows transformers' cache layers; it knows no text, no template and no sampling.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

CACHE = "cache" if "cache" in inspect.signature(CausalLMOutputWithPast).parameters else "past_key_values"
"""How models call the cache they are given: transformers 5.24 renamed it."""
LEAST_ROOM = 256
"""Tokens that a cache grows by at least."""


class PrefixCache:
    """Keys and values of a token sequence, of which the longest common prefix serves the next one.

    Attributes:
        ids: the token ids whose keys and values are held, in order.
        layers: transformers' cache, to be passed to `model.forward`.
        asked: how many of the ids were the last prompt that was answered; what follows is its reply, or a draft.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self._config = config
        self.clear()

    def clear(self) -> None:
        """Forget everything and free its memory."""
        self.ids: list[int] = []
        self.asked = 0
        self.layers = growing_cache(self._config)

    @property
    def is_plain(self) -> bool:
        """Whether every layer holds keys and values of single tokens, and no running state."""
        return all(type(layer) in (GrowingLayer, DynamicSlidingWindowLayer) for layer in self.layers.layers)

    @property
    def bytes(self) -> int:
        """The memory that the layers take, in bytes, their room and what was cut away included."""
        tensors = (each for layer in self.layers.layers for each in vars(layer).values())
        return sum(each.untyped_storage().nbytes() for each in tensors if isinstance(each, torch.Tensor))

    def shared(self, ids: Sequence[int]) -> int:
        """How many of the first `ids` are held."""
        return common_prefix(self.ids, ids)

    def fork(self, length: int) -> PrefixCache | None:
        """A copy of the first `length` ids with their keys and values; None where a layer cannot be cut there."""
        every: list[Any] = list(self.layers.layers)
        if not all(getattr(layer, "is_initialized", False) and _can_be_cut(layer) for layer in every):
            return None
        other = PrefixCache(self._config)
        for index, layer in enumerate(every):
            other.layers.update(layer.keys[..., :length, :], layer.values[..., :length, :], index)
        other.ids = self.ids[:length]
        return other

    @property
    def can_be_cut(self) -> bool:
        """Whether tokens can be taken back wherever the talk ends: no layer moves on and none has a running state."""
        return all(type(layer) is GrowingLayer for layer in self.layers.layers)

    def cut(self, length: int) -> None:
        """Keep the first `length` ids only; of caches that `can_be_cut`."""
        cut(self.layers, len(self.ids) - length)
        del self.ids[length:]

    def keep_common_prefix(self, ids: Sequence[int], undivided: int = 0) -> int:
        """Cut the cache down to what it shares with `ids`, less the last id, which must be fed.

        The first `undivided` ids see each other, so what was computed for them holds only where all of them are
        shared. Returns how many ids need not be fed again. Layers that cannot be cut (a sliding window that has
        moved on, a recurrent state) make that 0, unless nothing needs to be cut.
        """
        shared = common_prefix(self.ids, ids)
        length = min(shared, len(ids) - 1) if shared >= undivided else 0
        if not cut(self.layers, len(self.ids) - length):
            self.clear()
            return 0
        del self.ids[length:]
        return length

    @contextmanager
    def feeding(self, ids: Sequence[int]) -> Generator[DynamicCache]:
        """Hold the cache while a forward pass adds `ids`; what one that is broken off has added is taken out again."""
        try:
            yield self.layers
        except BaseException:
            every: list[Any] = list(self.layers.layers)
            added = [layer for layer in every if _length(layer) != len(self.ids)]
            if not self.ids or not all(_can_be_cut(layer) for layer in added):
                self.clear()
            for layer in added if self.ids else ():
                _shorten(layer, _length(layer) - len(self.ids))
            raise
        self.ids.extend(ids)


class GrowingLayer(DynamicLayer):
    """A layer of keys and values with room behind them: most tokens are written in place.

    `DynamicLayer` copies the whole cache for every token, which for a talk of 4,000 tokens costs a small model as much
    as its weights. Here a quarter more than is needed is taken at a time.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values of new tokens, (batch, heads, tokens, width); returns all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        new = old + key_states.shape[-2]
        if not self._fits(new):
            self._room = (_copied(self.keys, key_states, old, new), _copied(self.values, value_states, old, new))
        assert self._room
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[..., old:new, :] = states
        self.keys, self.values = (room[..., :new, :] for room in self._room)
        return self.keys, self.values

    def _fits(self, tokens: int) -> bool:
        """Whether the room is that of the keys at hand, which may have been cut or replaced, and large enough."""
        if not self._room or not self.keys.numel():
            return False
        room = self._room[0]
        return (
            self.keys.data_ptr() == room.data_ptr() and self.keys.stride() == room.stride() and tokens <= room.shape[-2]
        )

    def reset(self) -> None:
        """Forget everything."""
        self._room = None
        super().reset()


def _copied(held: torch.Tensor, states: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """A tensor with room for `new` tokens and more, that begins with the `old` ones `held`."""
    shape = (*states.shape[:-2], new + max(new // 4, LEAST_ROOM), states.shape[-1])
    room = states.new_empty(shape)
    if old:
        room[..., :old, :] = held
    return room


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """A cache of transformers for a model, its plain layers with room to grow."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    return cache


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
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
        _shorten(layer, tokens)
    return True


def _shorten(layer: Any, tokens: int) -> None:
    layer.keys = layer.keys[..., :-tokens, :]
    layer.values = layer.values[..., :-tokens, :]
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length -= tokens


def _length(layer: Any) -> int:
    """How many tokens a layer has seen; of one with a running state that is not known, and -1."""
    return int(layer.get_seq_length()) if isinstance(layer, DynamicLayer) else -1


def _can_be_cut(layer: object) -> bool:
    """Whether a layer still holds every token it has seen, in order, and nothing else."""
    if type(layer) is DynamicSlidingWindowLayer:
        return bool(layer.cumulative_length < layer.sliding_window)
    return type(layer) is GrowingLayer
