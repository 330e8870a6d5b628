"""What generators that run in threads yield, to a reader in asyncio.

A generator is ahead of its reader by some items at the most. Whoever leaves has every generator closed after the
item that it is at, and comes back when they are. It knows no item but that it has one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from typing import Generic, TypeVar

import anyio

AHEAD = 64
"""Items of one generator that may wait for the reader."""

Item = TypeVar("Item")


class Carried(Generic[Item]):
    """The items of all generators as (number, item), in the order in which they come.

    The last of each is None, or the error that broke it. To be used with `async with`; each generator is made and
    run in a thread of `pool`, and waits where that has none left.
    """

    def __init__(self, make: Sequence[Callable[[], Generator[Item]]], pool: Executor, ahead: int = AHEAD) -> None:
        self._make = make
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._come: list[tuple[int, Item | Exception | None]] = []
        self._filling = threading.Lock()
        self._arrived = asyncio.Event()
        self._room = [threading.Semaphore(ahead) for _ in make]
        self._gone = threading.Event()
        self._running: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Carried[Item]:
        for number, make in enumerate(self._make):
            self._running.append(self._loop.run_in_executor(self._pool, self._run, number, make))
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gone.set()
        for room in self._room:
            room.release()
        with anyio.CancelScope(shield=True):  # a time limit calls off all that is awaited, again and again
            await asyncio.wait(self._running)

    async def some(self) -> list[tuple[int, Item | Exception | None]]:
        """What has come, after waiting for it where there is nothing."""
        while not (come := self._taken()):
            await self._arrived.wait()
            self._arrived.clear()
        for number, _ in come:
            self._room[number].release()
        return come

    def _taken(self) -> list[tuple[int, Item | Exception | None]]:
        with self._filling:
            come, self._come = self._come, []
        return come

    def _run(self, number: int, make: Callable[[], Generator[Item]]) -> None:
        """Run a generator to its end, or until the reader has left."""
        if self._gone.is_set():  # while it waited for a thread
            return
        try:
            with closing(make()) as items:
                for item in items:
                    self._room[number].acquire()
                    if self._gone.is_set():
                        return
                    self._send(number, item)
        except Exception as error:
            self._send(number, error)
        else:
            self._send(number, None)

    def _send(self, number: int, item: Item | Exception | None) -> None:
        with self._filling:
            self._come.append((number, item))
            first = len(self._come) == 1
        if first:
            with suppress(RuntimeError):  # the loop has ended, and with it every reader
                self._loop.call_soon_threadsafe(self._arrived.set)
