"""Events from generators that run in threads to a reader in asyncio.

A generator is ahead of its reader by some events at the most. Whoever leaves has every generator closed after the
event that it is at, and comes back when they are. It knows no event but that it has one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress

import anyio

from chatcli.generation import Event

AHEAD = 64
"""Events of one generator that may wait for the reader."""


class Carried:
    """The events of all generators as (number, event), in the order in which they come.

    The last of each is None, or the error that broke it. To be used with `async with`; each generator is made and
    run in a thread of `pool`, and waits where that has none left.
    """

    def __init__(self, make: Sequence[Callable[[], Generator[Event]]], pool: Executor) -> None:
        self._make = make
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._come: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue()
        self._room = [threading.Semaphore(AHEAD) for _ in make]
        self._gone = threading.Event()
        self._running: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Carried:
        for number, make in enumerate(self._make):
            self._running.append(self._loop.run_in_executor(self._pool, self._run, number, make))
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gone.set()
        for room in self._room:
            room.release()
        with anyio.CancelScope(shield=True):  # a time limit calls off all that is awaited, again and again
            await asyncio.wait(self._running)

    async def some(self) -> list[tuple[int, Event | Exception | None]]:
        """What has come, after waiting for it where there is nothing."""
        come = [await self._come.get()]
        while not self._come.empty():
            come.append(self._come.get_nowait())
        for number, _ in come:
            self._room[number].release()
        return come

    def _run(self, number: int, make: Callable[[], Generator[Event]]) -> None:
        """Run a generator to its end, or until the reader has left."""
        if self._gone.is_set():  # while it waited for a thread
            return
        try:
            with closing(make()) as events:
                for event in events:
                    self._room[number].acquire()
                    if self._gone.is_set():
                        return
                    self._send(number, event)
        except Exception as error:
            self._send(number, error)
        else:
            self._send(number, None)

    def _send(self, number: int, event: Event | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it every reader
            self._loop.call_soon_threadsafe(self._come.put_nowait, (number, event))
