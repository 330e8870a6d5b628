"""Events of a generator that runs in a thread, for a reader in asyncio, a list at a time.

What goes to another process costs by the message, not by the event: a list holds all that came since the last one,
and lists are some time apart. It knows no event but that it has one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor
from contextlib import closing, suppress
from typing import Generic, TypeVar

PACE = 0.04
"""Seconds between two lists: nobody reads faster, and a message costs a millisecond of a core."""
_SLOWER = 0.01
"""By how many seconds the first lists get further apart: the first word is not kept back."""

Item = TypeVar("Item")


class _Box(Generic[Item]):
    """What has come and was not taken, filled by a thread and emptied in a loop."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.error: Exception | None = None
        self.ended = False
        self.gone = False
        self.lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.arrived = asyncio.Event()

    def fill(self, make: Callable[[], Generator[Item]]) -> None:
        """Run the generator to its end, or until the reader has gone."""
        try:
            with closing(make()) as items:
                for item in items:
                    if self.gone:
                        return
                    self._put(item)
        except Exception as error:
            self.error = error
        self.ended = True
        self._wake()

    def take(self) -> list[Item]:
        """All that is there."""
        with self.lock:
            taken, self.items = self.items, []
        return taken

    def _put(self, item: Item) -> None:
        with self.lock:
            self.items.append(item)
            first = len(self.items) == 1
        if first:
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the reader
            self.loop.call_soon_threadsafe(self.arrived.set)


async def gathered(make: Callable[[], Generator[Item]], pool: Executor) -> AsyncGenerator[list[Item]]:
    """What the generator yields in a thread of `pool`; an error of it is raised behind what came before.

    Whoever closes this has the generator closed at its next event.
    """
    box: _Box[Item] = _Box()
    box.loop.run_in_executor(pool, box.fill, make)
    pause = 0.0
    try:
        while True:
            await box.arrived.wait()
            box.arrived.clear()
            ended = box.ended
            if taken := box.take():
                yield taken
            if ended:
                break
            await asyncio.sleep(pause)
            pause = min(pause + _SLOWER, PACE)
        if box.error:
            raise box.error
    finally:
        box.gone = True
