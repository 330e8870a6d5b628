"""The decode loop: prefill what the cache lacks, then one token after another.

It knows a causal model, its cache and a sampler; it knows no text, no stop string and no template.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Collection, Generator, Sequence
from functools import cache, partial
from itertools import zip_longest
from typing import Any, TypeAlias

import torch

from chatcli.errors import EngineError
from chatcli.generation import Progress
from chatcli.runtime.breaking import breakable, can_be_broken, layers_of
from chatcli.runtime.cpu import AS_TORCH_DOES, Way
from chatcli.runtime.kv import CACHE, PrefixCache
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import Sampler
from chatcli.runtime.speculate import Guesser, Payoff

CHUNK_SECONDS = 0.15
"""How long a chunk of a prompt should take where the model is fast enough: who cancels must not wait for 0.2 s."""
LEAST_CHUNK, MOST_CHUNK = 256, 512
"""Tokens of one: with fewer a processor reads its weights and its cache too often; the plan counts the most."""
FEWEST = 64
"""Tokens of one where a single layer takes too long for more: after 50,000 tokens, or in a large model."""


FeedTexts: TypeAlias = Callable[[Sequence[tuple[PrefixCache, Sequence[int]]]], torch.Tensor]
"""Logits (texts, vocabulary) after new ids of several texts, each of which join its cache."""


class Pace:
    """How many tokens of a prompt to read at once: `least`, or more where the last ones took less than `seconds`.

    `rate` is how many a second were read of late; 0 while that is not known.
    """

    def __init__(self, seconds: float = CHUNK_SECONDS, least: int = LEAST_CHUNK) -> None:
        self.chunk = self._least = least
        self.rate = 0.0
        self._seconds = seconds

    def took(self, tokens: int, seconds: float, layers: int = 0) -> None:
        """Learn from a chunk: the next is at most twice as long, for one measurement may be disturbed.

        Where it can be given up between its `layers`, fewer than the least are read if one of them takes too long.
        """
        if tokens >= self.chunk:  # the rest of a prompt says little
            self.rate = tokens / max(seconds, 1e-6)
            wanted = int(self.rate * self._seconds)
            least = min(self._least, max(wanted * layers, FEWEST)) if layers else self._least
            self.chunk = min(max(min(wanted, 2 * tokens), least), MOST_CHUNK)


def prefill(
    model: Any, cache: PrefixCache, ids: Sequence[int], pace: Pace | None = None, some_rows: Way = AS_TORCH_DOES
) -> Generator[Progress, None, torch.Tensor]:
    """Feed what of `ids` is not cached yet, a chunk at a time as `some_rows` says; returns the last position's logits.

    A model whose context sees itself in both directions has a method `undivided`, which says how many of the
    first ids must be fed at once, and a method `places`, which tells positions from all ids so far.

    Yields how much of the prompt has been read, in tokens. Closing it keeps the chunks that were read.
    """
    pace = pace or Pace()
    undivided = model.undivided(ids) if hasattr(model, "undivided") else 0
    done = cache.keep_common_prefix(ids, undivided)
    layers = len(layers_of(model)) if can_be_broken(model) else 0
    logits = torch.empty(0)
    while done < len(ids):
        progress = Progress("reading", done, len(ids), "tokens")
        yield progress
        chunk = ids[done : max(done + pace.chunk, undivided)]
        begun = time.perf_counter()
        with some_rows():
            logits = (yield from breakable(model, partial(feed, model, cache, chunk), progress))[0]
        pace.took(len(chunk), time.perf_counter() - begun, layers)
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
    one_row: Way = AS_TORCH_DOES,
    some_rows: Way = AS_TORCH_DOES,
    guesser: Guesser | None = None,
) -> Generator[int, None, bool]:
    """Yield up to `limit` new token ids after the prompt `ids`, whose last logits are given.

    A token alone is computed the way that `one_row` says. What `guesser` guesses is fed along with it where that pays,
    as `some_rows` says, and stays as far as it is what is then drawn: guesses change the time and no token. An id in
    `end` ends the reply and is not yielded. Returns whether the reply came to its end, as against the limit.
    """
    seen, most = list(ids), len(ids) + limit
    payoff = Payoff() if guesser and cache.can_be_cut else None
    rows, guesses, seconds = logits[None], list[int](), 0.0
    while len(seen) < most:
        begun, before = time.perf_counter(), len(seen)
        for row, guess in zip_longest(rows, guesses):
            token = sampler.draw(row, seen)
            if len(seen) == before:
                seconds += time.perf_counter() - begun  # a GPU has computed the logits only when they are looked at
            if token in end:
                return True
            seen.append(token)
            yield token
            if token != guess or len(seen) == most:
                break
        if payoff and guesser:
            if before > len(ids):
                payoff.took(len(guesses), len(seen) - before - 1, seconds)
            if guesses:
                cache.cut(len(seen) - 1)
            guesses = guesser.guess(seen, min(payoff.length, most - len(seen) - 1)) if payoff.pays else []
        if len(seen) < most:
            begun = time.perf_counter()
            with some_rows() if guesses else one_row():
                rows = feed(model, cache, [seen[-1], *guesses], 1 + len(guesses))
            seconds = time.perf_counter() - begun
    return False


def feed(model: Any, cache: PrefixCache, ids: Sequence[int], rows: int = 1) -> torch.Tensor:
    """Logits (rows, vocabulary) after the last so many of `ids`, which join the cache."""
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
            **logits_of(type(model), rows),
        )
        logits: torch.Tensor = out.logits[0, -rows:]
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


def logits_of(model: type, rows: int) -> dict[str, int]:
    """The argument that spares the output head all positions but the last `rows`, where a model takes it."""
    return {"logits_to_keep": rows} if _keeps_logits(model) else {}


@cache
def _keeps_logits(model: type) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters  # type: ignore[attr-defined]
