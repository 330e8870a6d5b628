"""Who is answered, who is read and who waits; whose prompt is read on next, and how much of it.

A short prompt does not wait for a long one, and that not for ever. It knows rows and their lengths; it computes
nothing, tells nobody, and is told what memory allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from chatcli.runtime.kv import common_prefix
from chatcli.runtime.requests import Request, Row

ROWS = 32
"""Requests that are answered at once at the most."""
MARGIN = 64
"""Tokens that every row is taken to grow by when another one is let in."""
ALIKE = 16
"""Tokens that two prompts begin with alike, and nothing that is kept does, for which the second waits for the first."""


class Schedule:
    """Requests by what is done with them: `rows` share the steps of the batch, `turns` compute alone one after another.

    Those of `reading` have a prompt that is begun, and those of `waiting` none, or had to make room. Of all of them
    `most` may be under way at once.
    """

    def __init__(
        self, shared: Callable[[Sequence[int]], int], fit: Callable[[int, int], bool], most_turns: int
    ) -> None:
        """`shared` says how many of the first ids are kept, `fit` whether so many rows of so many tokens have room."""
        self._shared, self._fit, self._most_turns = shared, fit, most_turns
        self._come = 0
        self.most = ROWS
        self.rows: list[Row] = []
        self.turns: list[Row] = []
        self.reading: list[Row] = []
        self.waiting: list[Row] = []

    @property
    def running(self) -> int:
        """Requests that are being read or answered."""
        return len(self.rows) + len(self.turns) + len(self.reading)

    @property
    def only_one(self) -> bool:
        """Whether a single request is under way, and none waits."""
        return self.running == 1 and not self.waiting

    def add(self, request: Request, *, takes_turns: bool) -> None:
        """Let a request wait, behind all others."""
        left = len(request.ids) - self._shared(request.ids)
        self.waiting.append(Row(request, self._come, list(request.ids), left, takes_turns))
        self._come += 1

    def wait_again(self, rows: Iterable[Row]) -> None:
        """Let rows wait for their turn, first of all; they are read again with what they have made, and go on."""
        for row in rows:
            row.left = len(row.seen) - self._shared(row.seen)
            row.steps, row.cache, row.alone = None, None, False
        self.waiting = sorted([*rows, *self.waiting], key=lambda row: row.number)

    def let_go(self, row: Row) -> None:
        """Take out one that is being read or takes turns."""
        (self.turns if row in self.turns else self.reading).remove(row)

    def forget_all(self) -> list[Row]:
        """Forget all requests; returns them."""
        groups = (self.rows, self.turns, self.reading, self.waiting)
        everybody = [row for group in groups for row in group]
        for group in groups:
            group.clear()
        return everybody

    def has_read(self, row: Row, tokens: int) -> None:
        """Count for all others whose prompts are not read that so much of this one was."""
        for other in (*self.reading, *self.waiting):
            other.passed += tokens if other is not row else 0

    def next_to_read(self, beside: Collection[Row]) -> Row | None:
        """Whose prompt is read on `beside` others; where there is no room for one that waits, only who is read.

        One that waited is among those that are read from then on.
        """
        asking = [row for row in (*self.reading, *self.waiting) if row not in beside]
        row = min(asking, key=lambda row: (row.urgency, row.number), default=None)
        if row in self.waiting and not self._may_begin(row):
            reading = [row for row in self.reading if row not in beside]
            return min(reading, key=lambda row: row.urgency, default=None)
        if row in self.waiting:
            self.waiting.remove(row)
            self.reading.append(row)
        return row

    def gains_by_waiting(self, row: Row, others: Iterable[Row]) -> bool:
        """Whether a prompt that was not begun has less to read when one of the others has been read."""
        kept = self._shared(row.seen)
        return any(common_prefix(row.seen, other.seen) >= kept + ALIKE for other in others)

    def _may_begin(self, row: Row) -> bool:
        if not self.running:
            return True
        if self.running >= self.most:
            return False
        if row.takes_turns:
            return sum(each.takes_turns for each in (*self.turns, *self.reading)) < self._most_turns
        rows = [*self.rows, *self.reading, row]
        return self._fit(len(rows), max(len(each.seen) for each in rows) + MARGIN)


def part(row: Row, room: int, *, end: int) -> Sequence[int]:
    """What of a prompt is read next, `room` tokens, or all where no more than `end` were left behind these.

    So few would cost less in the same pass than in their own.
    """
    done = len(row.seen) - row.left
    return row.seen[done:] if row.left - room < end else row.seen[done : max(done + room, row.undivided)]
