"""Who is answered now, who waits, and who is told to come back: places for so many, and a queue that ends.

It knows numbers of places; what is done in one it does not know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from chatcli.openai.errors import ApiError

_SOONEST = 1
_LATEST = 30
"""Seconds after which a client that was turned away may ask again."""


class Admission:
    """`places` for answers under way; up to `queue` requests wait, first come, first served.

    Attributes:
        running: how many places are taken.
    """

    def __init__(self, places: int, queue: int) -> None:
        self.places = places
        self.running = 0
        self._queue = queue
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, count: int = 1) -> AsyncGenerator[None]:
        """Hold `count` places at once, after waiting for them.

        Raises:
            ApiError: the queue is full.
        """
        count = min(count, self.places)
        await self._enter(count)
        try:
            yield
        finally:
            self.running -= count
            self._let_in()

    async def _enter(self, count: int) -> None:
        if not self._waiting and self.running + count <= self.places:
            self.running += count
            return
        if len(self._waiting) >= self._queue:
            message = f"The server answers {self.running} requests and {len(self._waiting)} wait: try again later."
            later = min(_SOONEST + len(self._waiting) // self.places, _LATEST)
            raise ApiError(429, message, code="rate_limit_exceeded", retry_after=later)
        ticket = asyncio.get_running_loop().create_future()
        entry = (count, ticket)
        self._waiting.append(entry)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.cancelled():
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(entry)
            else:  # let in, and called off before it knew
                self.running -= count
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self.running + self._waiting[0][0] <= self.places:
            count, ticket = self._waiting.popleft()
            if not ticket.cancelled():
                self.running += count
                ticket.set_result(None)
