"""Many prompts at once: one forward pass a step for all of them, rows leave the batch as they end.

Prompts are padded on the left and masked, so that every row computes what it would alone. It knows a causal
model and samplers; it knows no text and no order of the rows but the one it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Any

import torch

from chatcli.errors import ChatcliError
from chatcli.runtime.decode import logits_of
from chatcli.runtime.kv import CACHE, growing_cache
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import Sampler, draw_rows

_PREFILL_CHUNK = 512
"""Tokens of each prompt in one forward pass."""


def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samplers: Sequence[Sampler],
    *,
    end: Sequence[Collection[int]],
    limits: Sequence[int],
    stopped: Collection[int] = (),
) -> Generator[tuple[int, int | None], None, None]:
    """Yield (row, id) for every new id, and (row, None) when a row has come to its end.

    A row ends with an id of its `end`, which is not yielded, or silently after its limit; a caller who adds it to
    `stopped` wants no more of it. Rows are numbered by their place in `prompts`.
    """
    rows = list(range(len(prompts)))
    seen = [list(prompt) for prompt in prompts]
    made = [0] * len(prompts)
    batch = _Padded(model, prompts)
    logits = batch.prefill(prompts)
    while rows:
        tokens = draw_rows(logits, [samplers[row] for row in rows], [seen[row] for row in rows])
        staying, fed = [], []
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if isinstance(token, ChatcliError):
                raise token
            if token in end[row]:
                yield row, None
                continue
            seen[row].append(token)
            made[row] += 1
            yield row, token
            if made[row] < limits[row] and row not in stopped:
                staying.append(place)
                fed.append(token)
        if len(staying) < len(rows):
            batch.keep(staying)
            rows = [rows[place] for place in staying]
        if rows:
            logits = batch.step(fed)


class _Padded:
    """The cache of a batch with its ids and mask: (rows, tokens so far), 0 where a row is padding."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._device = input_device(model)
        self._cache = growing_cache(model.config)
        self._ids = torch.empty(len(prompts), 0, dtype=torch.long, device=self._device)
        longest = max(map(len, prompts))
        self._mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self._device
        )

    def prefill(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read all prompts, a chunk of columns at a time; logits (rows, vocabulary) of their last tokens."""
        longest = self._mask.shape[1]
        # A context that sees itself in both directions is read at once.
        chunk = longest if hasattr(self._model, "undivided") else _PREFILL_CHUNK
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=self._device)
        logits = torch.empty(0)
        for start in range(0, longest, chunk):
            logits = self._forward(ids[:, start : start + chunk], self._mask[:, : start + chunk])
        return logits

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token a row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=1)
        return self._forward(torch.tensor(tokens, device=self._device)[:, None], self._mask)

    def keep(self, places: Sequence[int]) -> None:
        """Drop all rows but those."""
        index = torch.tensor(places, dtype=torch.long, device=self._device)
        self._mask, self._ids = self._mask[index], self._ids[index]
        if places:
            self._cache.batch_select_indices(index)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self._ids = torch.cat([self._ids, ids], dim=1)
        if hasattr(self._model, "positions"):
            positions = self._model.positions(self._ids, mask)[..., -ids.shape[1] :]
        else:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with torch.inference_mode():
            out = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                **{CACHE: self._cache},
                use_cache=True,
                **logits_of(type(self._model), 1),
            )
        logits: torch.Tensor = out.logits[:, -1]
        return logits
