"""The KV cache of rows that come and go: keys and values of many texts of different lengths, side by side.

The texts end in the same column, so that a step writes one column and the rest is padding on the left, which every
model understands. Room is kept to the right and below: a row that joins or leaves is copied once, and a step copies
nothing. It knows a causal model and its caches; no sampler, and no order of the rows but by their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from chatcli.runtime.decode import logits_of
from chatcli.runtime.kv import CACHE, LEAST_ROOM, PrefixCache
from chatcli.runtime.placement import input_device


class Columns:
    """Rows of tokens with their keys and values; `ids` are those of each row that were fed."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = input_device(model)
        self.clear()

    def clear(self) -> None:
        """Forget all rows and free their memory."""
        self.ids: list[list[int]] = []
        self.end = 0
        self._rows_room = self._columns_room = 0
        self._layers: list[ColumnLayer] = []
        self._cache = DynamicCache(config=self._model.config)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, which all others are padded to."""
        return max(map(len, self.ids), default=0)

    @property
    def bytes_per_token(self) -> int:
        """What a token of a row takes, in bytes; 0 while it is not known."""
        return sum(layer.bytes_per_token for layer in self._layers)

    def join(self, cache: PrefixCache) -> None:
        """Add a copy of what `cache`, which is not empty, holds as the last row."""
        if not self._layers:
            self._layers = [ColumnLayer(self) for _ in cache.layers.layers]
            self._cache.layers = list[Any](self._layers)
        with torch.inference_mode():
            self._make_room(len(self.ids) + 1, max(self.longest, len(cache.ids)) + 1, like=cache)
            for layer, other in zip(self._layers, list[Any](cache.layers.layers), strict=True):
                layer.write(len(self.ids), other.keys, other.values)
        self.ids.append(list(cache.ids))

    def leave(self, place: int) -> None:
        """Take a row out; the last one moves to its place."""
        last = len(self.ids) - 1
        if place != last:
            with torch.inference_mode():
                for layer in self._layers:
                    layer.write(place, *layer.read(last, len(self.ids[last])))
        self.ids[place] = self.ids[last]
        del self.ids[last]

    def extend(self, cache: PrefixCache, place: int) -> None:
        """Give `cache`, which holds the beginning of a row, the rest of it."""
        new = self.ids[place][len(cache.ids) :]
        if new:
            with torch.inference_mode(), cache.feeding(new) as layers:
                for index, layer in enumerate(self._layers):
                    layers.update(*layer.read(place, len(new)), index)

    def feed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token a row; returns logits (rows, vocabulary)."""
        with torch.inference_mode():
            self._make_room(len(self.ids), self.longest + 1)
            mask = self._mask()
            padded = any(len(ids) < self.longest for ids in self.ids)
            out = self._model(
                input_ids=torch.tensor(tokens, device=self._device)[:, None],
                attention_mask=mask if padded else None,  # attention has faster ways without
                position_ids=self._positions(tokens, mask),
                **{CACHE: self._cache},
                use_cache=True,
                **logits_of(type(self._model), 1),
            )
        self.end += 1
        for ids, token in zip(self.ids, tokens, strict=True):
            ids.append(token)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _mask(self) -> torch.Tensor:
        """1 for the tokens of each row and the one that is fed, 0 for the padding; (rows, columns)."""
        columns = self.longest + 1
        lengths = torch.tensor([[len(ids) + 1] for ids in self.ids], device=self._device)
        return (torch.arange(columns, 0, -1, device=self._device) <= lengths).long()

    def _positions(self, tokens: Sequence[int], mask: torch.Tensor) -> torch.Tensor:
        """Positions of the tokens that are fed; a model that counts its own way tells them from all ids."""
        if not hasattr(self._model, "positions"):
            return torch.tensor([[len(ids)] for ids in self.ids], device=self._device)
        columns = mask.shape[1]
        padded = [[0] * (columns - 1 - len(ids)) + [*ids, token] for ids, token in zip(self.ids, tokens, strict=True)]
        positions: torch.Tensor = self._model.positions(torch.tensor(padded, device=self._device), mask)[..., -1:]
        return positions

    def _make_room(self, rows: int, columns: int, like: PrefixCache | None = None) -> None:
        """Have room for so many rows of so many tokens, the last of which is not written yet.

        Where the rows move, they move to the left: what was behind the longest one that has left is let go.
        """
        fits = columns - 1 <= self.end < self._columns_room
        if fits and rows <= self._rows_room:
            return
        rows_room = self._rows_room if rows <= self._rows_room else max(rows, min(2 * self._rows_room, rows + 8))
        columns_room = self._columns_room
        if not fits and (columns_room < columns + LEAST_ROOM or columns_room > 4 * (columns + LEAST_ROOM)):
            columns_room = columns + max(columns // 4, LEAST_ROOM)
        end = self.end if fits else columns - 1
        shapes: list[Any] = list(like.layers.layers) if like else list(self._layers)
        moved = [
            layer.moved(rows_room, columns_room, end, shape) for layer, shape in zip(self._layers, shapes, strict=True)
        ]
        for layer, (keys, values) in zip(self._layers, moved, strict=True):
            layer.keys, layer.values = keys, values
        self._rows_room, self._columns_room, self.end = rows_room, columns_room, end


class ColumnLayer(DynamicLayer):
    """One layer: keys and values (rows, heads, columns, width) with more room than is used.

    A sliding window is the model's mask here; only what it looks at need be right.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, columns: Columns) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.columns = columns
        self.is_initialized = True
        self.keys = self.values = torch.empty(0)

    @property
    def bytes_per_token(self) -> int:
        """What a row's token takes, in bytes."""
        if self.keys.ndim != 4:
            return 0
        return sum(each.shape[1] * each.shape[3] * each.element_size() for each in (self.keys, self.values))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the column of the step, (rows, heads, 1, width); returns the columns from the longest row's first."""
        rows, end = key_states.shape[0], self.columns.end
        first = end - self.columns.longest
        self.keys[:rows, :, end : end + 1] = key_states
        self.values[:rows, :, end : end + 1] = value_states
        return self.keys[:rows, :, first : end + 1], self.values[:rows, :, first : end + 1]

    def get_seq_length(self) -> int:
        """Columns before the step."""
        return self.columns.longest

    def write(self, place: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put keys and values (1, heads, tokens, width) into a row, up to the last column."""
        first, end = self.columns.end - keys.shape[-2], self.columns.end
        self.keys[place, :, first:end] = keys[0]
        self.values[place, :, first:end] = values[0]

    def read(self, place: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A row's last tokens, (1, heads, tokens, width)."""
        first, end = self.columns.end - tokens, self.columns.end
        return self.keys[place : place + 1, :, first:end], self.values[place : place + 1, :, first:end]

    def moved(self, rows: int, columns: int, end: int, like: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values in new room for so many, ending in the column `end`; shaped `like` another layer's."""
        here, used = len(self.columns.ids), self.columns.longest
        new = []
        for mine, other in ((self.keys, like.keys), (self.values, like.values)):
            # Zeros, for padding is multiplied by 0, and what happens to be in memory may be no number.
            room = other.new_zeros((rows, other.shape[1], columns, other.shape[3]))
            if here:
                room[:here, :, end - used : end] = mine[:here, :, self.columns.end - used : self.columns.end]
            new.append(room)
        return new[0], new[1]
