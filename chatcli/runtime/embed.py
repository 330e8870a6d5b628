"""Vectors of texts from a language model: its last hidden states, averaged over the tokens, of length 1.

A causal model sees each token with those before it, so the average weighs what a text begins with; models made for
vectors do better. It knows ids and a loaded model, no text.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch

from chatcli.errors import UsageError
from chatcli.runtime.decode import require_known
from chatcli.runtime.placement import input_device

_TOKENS = 4096
"""Of all texts in one forward pass, padding counted in."""


def embed(model: Any, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
    """A vector for each of `prompts`, none of them empty.

    Raises:
        UsageError: the model does not show its hidden states.
    """
    require_known(model, [max(ids) for ids in prompts])
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
    if reader is None or reader is model:
        raise UsageError("This model gives no embeddings.")
    vectors: dict[int, list[float]] = {}
    for places in _batches(prompts):
        found = _pooled(reader, [prompts[place] for place in places], input_device(model))
        vectors.update(zip(places, found.tolist(), strict=True))
    return [vectors[place] for place in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]]) -> Generator[list[int]]:
    """Places of prompts that are read together, of about the same length."""
    batch: list[int] = []
    for place in sorted(range(len(prompts)), key=lambda each: len(prompts[each])):
        if batch and (len(batch) + 1) * len(prompts[place]) > _TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _pooled(reader: Any, prompts: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Normalised means (rows, hidden size). Padding is on the right, where no token before it sees it."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[*each, *[0] * (longest - len(each))] for each in prompts], device=device)
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in prompts], device=device)
    with torch.inference_mode():
        states = reader(input_ids=ids, attention_mask=mask, **({"use_cache": False} if reader.config.use_cache else {}))
        hidden = states.last_hidden_state.float()
        weights = mask.to(hidden.device, hidden.dtype)[..., None]
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)
