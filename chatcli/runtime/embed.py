"""Vectors of texts from a model's last hidden states, of length 1.

A causal model sees each token with those before it, so the mean weighs what a text begins with; models made for
vectors have a way of their own, or see in both directions. It knows ids and a loaded model, no text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch

from chatcli.errors import UsageError
from chatcli.generation import Embedded, Progress
from chatcli.models.pooling import Pooling
from chatcli.runtime.breaking import given_up, layers_of
from chatcli.runtime.decode import require_known
from chatcli.runtime.explain import explained_answer
from chatcli.runtime.placement import input_device, release
from chatcli.runtime.quantize import precision

LEAST, MOST = 256, 4096
"""Tokens of all texts in one forward pass, padding counted in; a text that is longer is read alone."""
PASS_SECONDS = 0.1
"""How long a pass should take where the model is fast enough: answers under way wait for it."""

Passes = Generator[Progress | Embedded]


class Embedder:
    """A loaded model that makes nothing but vectors."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = str(input_device(model))
        self.precision = precision(model)

    def embed(self, prompts: Sequence[Sequence[int]], pooling: Pooling, unwanted: Callable[[], bool]) -> Passes:
        """See `embed`."""
        reader = self._model.get_encoder() if self._model.config.is_encoder_decoder else self._model
        yield from embed(self._model, reader, prompts, pooling, unwanted)

    def close(self) -> None:
        """Free the model's memory."""
        release(self._model)
        self._model = None


def embed(
    model: Any, reader: Any, prompts: Sequence[Sequence[int]], pooling: Pooling, unwanted: Callable[[], bool]
) -> Passes:
    """The vectors of `prompts`, none of them empty, behind a report of each pass of the `reader`, a part of `model`.

    Raises:
        UsageError: the model does not show its hidden states.
        GivenUpError: in the middle of a pass it came to be `unwanted`.
        OutOfMemory, EngineError: it failed.
    """
    device, total = input_device(model), sum(map(len, prompts))
    if reader is None:
        raise UsageError("This model gives no embeddings.")
    with explained_answer(str(device)):
        require_known(model, [max(ids) for ids in prompts])
        # Other processes that compute along hear of nothing but whole passes.
        layers = () if getattr(model, "is_shared", False) else layers_of(reader)
        waiting = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        vectors: dict[int, tuple[float, ...]] = {}
        room, done = LEAST, 0
        while waiting:
            places = _first(waiting, prompts, room)
            waiting = waiting[len(places) :]
            begun = time.perf_counter()
            with given_up(layers, unwanted):
                found = _pooled(reader, [prompts[place] for place in places], pooling, device).tolist()
            quick = time.perf_counter() - begun < PASS_SECONDS
            room = min(2 * room, MOST) if quick else max(room // 2, LEAST)
            vectors.update(zip(places, map(tuple, found), strict=True))
            done += sum(len(prompts[place]) for place in places)
            yield Progress("reading", done, total, "tokens")
        yield Embedded(tuple(vectors[place] for place in range(len(prompts))))


def _first(waiting: Sequence[int], prompts: Sequence[Sequence[int]], room: int) -> Sequence[int]:
    """Of the places of prompts, the shortest first, those that are read together."""
    count = 1
    while count < len(waiting) and (count + 1) * len(prompts[waiting[count]]) <= room:
        count += 1
    return waiting[:count]


def _pooled(reader: Any, prompts: Sequence[Sequence[int]], pooling: Pooling, device: torch.device) -> torch.Tensor:
    """Vectors (rows, hidden size). Padding is on the right, where no token before it sees it."""
    longest, padding = max(map(len, prompts)), getattr(reader.config, "pad_token_id", None) or 0
    ids = torch.tensor([[*each, *[padding] * (longest - len(each))] for each in prompts], device=device)
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in prompts], device=device)
    uncached = {"use_cache": False} if getattr(reader.config, "use_cache", False) else {}
    with torch.inference_mode():
        hidden = reader(input_ids=ids, attention_mask=mask, **uncached).last_hidden_state.float()
        return torch.nn.functional.normalize(_one(hidden, mask.to(hidden.device), pooling), dim=-1)


def _one(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Of each row's hidden states (rows, tokens, hidden size) the one, of any length, that stands for all."""
    match pooling:
        case "first":
            return hidden[:, 0]
        case "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        case "max":
            return hidden.masked_fill(~mask.bool()[..., None], -torch.inf).amax(1)
        case "mean":
            weights = mask
        case "weighted mean":
            weights = mask * mask.cumsum(1)
    return (hidden * (weights / weights.sum(1, keepdim=True))[..., None]).sum(1)
