"""Guesses at the next tokens, so that one forward pass can yield several: exact, whoever guesses.

Every token is drawn from the model's own distribution at its place; a guess only decides how many of them come out of
one pass (speculative decoding with a deterministic draft, Leviathan et al., arXiv 2211.17192, where the draft's
distribution is a single point). It knows ids and times; how a guess is checked is `decode`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

FIRST_LENGTH, LONGEST = 4, 16
"""Tokens of the first guess of a reply, and of the longest."""
_NGRAM = 3
_REST, _LONGEST_REST = 16, 512
"""Tokens for which nothing is guessed after guessing did not pay, the first and any later time."""
_NEWS = 0.3
"""Weight of the latest measurement."""


class Guesser(Protocol):
    """Whoever guesses how a text goes on."""

    def guess(self, seen: Sequence[int], most: int) -> list[int]:
        """Up to `most` ids that may follow `seen`, which only ever grows; perhaps none."""
        ...


class PromptLookup:
    """Guesses that what followed the last three tokens before follows again, in the prompt or in the reply."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = _NGRAM

    def guess(self, seen: Sequence[int], most: int) -> list[int]:
        """What stands behind the latest earlier place of the last three ids."""
        for place in range(self._indexed, len(seen)):
            self._after[tuple(seen[place - _NGRAM : place])] = place
        self._indexed = max(len(seen), _NGRAM)
        found = self._after.get(tuple(seen[-_NGRAM:]))
        return list(seen[found : found + most]) if found else []


class Draft:
    """Guesses what a smaller model with the same tokens would say; `likeliest` is its greedy continuation."""

    def __init__(self, likeliest: Callable[[Sequence[int], int], list[int]]) -> None:
        self._likeliest = likeliest

    def guess(self, seen: Sequence[int], most: int) -> list[int]:
        """The draft model's own likeliest ids."""
        return self._likeliest(seen, most) if most > 0 else []


class Payoff:
    """Whether and how far to guess in this reply, from what a token took with guesses and without."""

    def __init__(self) -> None:
        self.length = FIRST_LENGTH
        self._plain = 0.0
        self._guessed = 0.0
        self._resting = 0
        self._rest = _REST

    @property
    def pays(self) -> bool:
        """Whether to guess now; not before it is known what a token takes without."""
        return self._plain > 0 and not self._resting

    def took(self, guesses: int, right: int, seconds: float) -> None:
        """A pass with so many guesses, of which the first `right` were right; it yielded one token more."""
        if not guesses:
            self._plain = _mixed(self._plain, seconds)
            self._resting = max(self._resting - 1, 0)
            return
        self._guessed = _mixed(self._guessed, seconds / (right + 1))
        self.length = min(2 * self.length, LONGEST) if right == guesses else max(right, 2)
        if self._guessed < self._plain:
            self._rest = _REST
        else:
            self._resting, self._rest, self._guessed = self._rest, min(2 * self._rest, _LONGEST_REST), 0.0


def _mixed(known: float, news: float) -> float:
    return known + _NEWS * (news - known) if known else news
