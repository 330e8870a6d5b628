"""The decode loop: prefill what the cache lacks, then one token after another.

It knows a causal model, its cache and a sampler; it knows no text, no stop string and no template.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Generator, Sequence
from typing import Any

import torch

from chatcli.errors import EngineError
from chatcli.generation import Progress
from chatcli.runtime.kv import CACHE, PrefixCache
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import Sampler

PREFILL_CHUNK = 512
"""Tokens per forward pass of a prompt: short enough to be cancelled, long enough for full speed."""


def prefill(model: Any, cache: PrefixCache, ids: Sequence[int]) -> Generator[Progress, None, torch.Tensor]:
    """Feed what of `ids` is not cached yet, a chunk at a time; returns the last position's logits.

    A model whose context sees itself in both directions has a method `undivided`, which says how many of the
    first ids must be fed at once, and a method `places`, which tells positions from all ids so far.

    Yields how much of the prompt has been read, in tokens. Closing it between chunks keeps what was read.
    """
    undivided = model.undivided(ids) if hasattr(model, "undivided") else 0
    done = cache.keep_common_prefix(ids, undivided)
    logits = torch.empty(0)
    while done < len(ids):
        yield Progress("reading", done, len(ids), "tokens")
        chunk = ids[done : max(done + PREFILL_CHUNK, undivided)]
        logits = _forward(model, cache, chunk)
        done += len(chunk)
    return logits


def decode(
    model: Any,
    cache: PrefixCache,
    ids: Sequence[int],
    logits: torch.Tensor,
    sampler: Sampler,
    *,
    end: Collection[int],
    limit: int,
) -> Generator[int, None, bool]:
    """Yield up to `limit` new token ids after the prompt `ids`, whose last logits are given.

    An id in `end` ends the reply and is not yielded. Returns whether the reply came to its end, as
    against the limit.
    """
    seen = list(ids)
    for made in range(limit):
        token = sampler.draw(logits, seen)
        if token in end:
            return True
        seen.append(token)
        yield token
        if made + 1 < limit:
            logits = _forward(model, cache, [token])
    return False


def _forward(model: Any, cache: PrefixCache, ids: Sequence[int]) -> torch.Tensor:
    """Logits (vocabulary,) after the last of `ids`, which join the cache."""
    require_known(model, ids)
    device = input_device(model)
    told = {}
    if hasattr(model, "places"):
        told["position_ids"] = model.places([*cache.ids, *ids], len(cache.ids))[None].to(device)
    with torch.inference_mode(), cache.feeding(ids) as layers:
        out = model(
            input_ids=torch.tensor([list(ids)], device=device),
            **{CACHE: layers},
            use_cache=True,
            **told,
            **_last_logits_only(type(model)),
        )
        logits: torch.Tensor = out.logits[0, -1]
        return logits


def require_known(model: Any, ids: Sequence[int]) -> None:
    """Refuse ids beyond the model's vocabulary.

    Raises:
        EngineError: there is one.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    if max(ids) >= vocabulary:
        raise EngineError(
            f"The tokenizer made token {max(ids)}, but the model knows only {vocabulary}: "
            "the checkpoint's tokenizer and weights do not belong together."
        )


_LAST_ONLY: dict[type, dict[str, int]] = {}


def _last_logits_only(model: type) -> dict[str, int]:
    """The argument that spares the output head all positions but the last, where a model takes it."""
    if model not in _LAST_ONLY:
        takes = "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]
        _LAST_ONLY[model] = {"logits_to_keep": 1} if takes else {}
    return _LAST_ONLY[model]
