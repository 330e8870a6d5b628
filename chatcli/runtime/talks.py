"""The KV caches of several talks, within a budget of memory: which of them a prompt goes on from.

A prompt takes the cache that shares the longest beginning with it. Where that would throw away a part that somebody
may come back to, another talk or another branch, the shared beginning is copied and the old cache stays; the ones
used longest ago go first when the budget is full. It knows ids and sizes; it feeds no model.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from transformers.configuration_utils import PreTrainedConfig

from chatcli.runtime.kv import PrefixCache

WORTH_KEEPING = 32
"""Tokens that are not worth a cache of their own: they are read again in no time."""
_TAIL = 8
"""Tokens by which a template may end a prompt that it writes otherwise once the reply is there."""


class Talks:
    """Caches by last use; `budget` bounds what those hold that are not in use, in bytes."""

    def __init__(self, config: PreTrainedConfig, budget: int) -> None:
        self._config = config
        self._budget = budget
        self._caches = [PrefixCache(config)]
        self._lent: set[PrefixCache] = set()

    @property
    def latest(self) -> PrefixCache:
        """The cache that was used last."""
        return self._caches[-1]

    def shared(self, ids: Sequence[int]) -> int:
        """How many of the first `ids` some cache holds."""
        return max(cache.shared(ids) for cache in self._caches)

    def cache_for(self, ids: Sequence[int]) -> PrefixCache:
        """The cache to read the prompt `ids` with; it becomes the latest."""
        held = max(reversed(self._caches), key=lambda cache: cache.shared(ids))
        if held in self._lent:
            chosen = self._beside(held, ids) or PrefixCache(self._config)
        else:
            chosen = (_spoils(held, ids) and self._beside(held, ids)) or held
        others = (cache for cache in self._caches if cache is not chosen and (cache.ids or cache in self._lent))
        self._caches = [*others, chosen]
        self._shrink(self._budget, but=chosen)
        return chosen

    @contextmanager
    def lent(self, ids: Sequence[int]) -> Generator[PrefixCache]:
        """The same, and nobody else is given it until this ends."""
        cache = self.cache_for(ids)
        self._lent.add(cache)
        try:
            yield cache
        finally:
            self._lent.discard(cache)

    def beginning(self, ids: Sequence[int]) -> PrefixCache:
        """The cache that holds most of the beginning of `ids` and nothing else, to be given the rest of them.

        It becomes the latest.
        """
        free = (each for each in self._caches if each not in self._lent and each.shared(ids) == len(each.ids))
        chosen = max(free, key=lambda cache: len(cache.ids), default=None) or PrefixCache(self._config)
        self._caches = [*(each for each in self._caches if each is not chosen), chosen]
        self._shrink(self._budget, but=chosen)
        return chosen

    def clear(self) -> None:
        """Forget everything and free its memory."""
        self._caches = [PrefixCache(self._config)]

    def _beside(self, held: PrefixCache, ids: Sequence[int]) -> PrefixCache | None:
        """A cache of its own for `ids`, with what it shares with `held`; None where there is no room for both."""
        if held.bytes > self._budget:
            return None
        # A copy of what is shared takes no more than the cache that it is taken from.
        self._shrink(self._budget - held.bytes, but=held)
        if sum(cache.bytes for cache in self._caches) > self._budget:
            return None
        return _copy(held, ids) or PrefixCache(self._config)

    def _shrink(self, budget: int, *, but: PrefixCache) -> None:
        """Drop the caches used longest ago until the others hold no more than `budget` bytes."""
        others = [cache for cache in self._caches if cache is not but and cache not in self._lent]
        total = sum(cache.bytes for cache in others)
        for cache in others:
            if total <= budget:
                return
            total -= cache.bytes
            self._caches.remove(cache)


def _spoils(cache: PrefixCache, ids: Sequence[int]) -> bool:
    """Whether reading `ids` with a cache throws away what somebody may come back to.

    A next turn does not, though its template may leave out what the model thought in the one before.
    """
    shared = cache.shared(ids)
    next_turn = len(ids) > cache.asked and shared >= cache.asked - _TAIL
    return len(cache.ids) - shared >= WORTH_KEEPING and not next_turn


def _copy(cache: PrefixCache, ids: Sequence[int]) -> PrefixCache | None:
    shared = cache.shared(ids)
    return cache.fork(shared) if shared >= WORTH_KEEPING else None
