"""Events come from threads to asyncio in order; nobody runs ahead of a slow reader; who leaves ends them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import anyio

from chatcli.generation import Event, Text
from chatcli.server.api.carrying import AHEAD, Carried


class Source:
    """A generator of numbered texts that tells how far it is and whether it was closed."""

    def __init__(self, most: int = 10**9, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = threading.Event()
        self._most = most
        self._error = error

    def events(self) -> Generator[Event]:
        try:
            while self.made < self._most:
                self.made += 1
                yield Text(str(self.made))
            if self._error:
                raise self._error
        finally:
            self.closed.set()


@contextmanager
def pool() -> Generator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4, thread_name_prefix="carried") as made:
        yield made
    assert not [each for each in threading.enumerate() if each.name.startswith("carried")]


async def read(carried: Carried, going: int) -> list[tuple[int, Event | Exception | None]]:
    come: list[tuple[int, Event | Exception | None]] = []
    while sum(not isinstance(event, Text) for _, event in come) < going:
        come += await carried.some()
    return come


def test_each_generator_is_told_whole_and_in_order() -> None:
    error = ValueError("broken")
    sources = [Source(500), Source(3), Source(2, error)]

    async def scene(threads: ThreadPoolExecutor) -> list[tuple[int, Event | Exception | None]]:
        async with Carried([source.events for source in sources], threads) as carried:
            return await read(carried, 3)

    with pool() as threads:
        come = asyncio.run(scene(threads))
    for number, (source, end) in enumerate(zip(sources, [None, None, error], strict=True)):
        told = [event for each, event in come if each == number]
        assert told == [*(Text(str(i + 1)) for i in range(source.made)), end]
        assert source.closed.is_set()


def test_nobody_runs_far_ahead_of_a_slow_reader() -> None:
    source = Source()

    async def scene(threads: ThreadPoolExecutor) -> None:
        async with Carried([source.events], threads) as carried:
            seen = 0
            while source.made <= AHEAD:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert source.made == AHEAD + 1  # one in hand
            seen += len(await carried.some())
            while source.made <= AHEAD + seen:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert source.made == AHEAD + seen + 1

    with pool() as threads:
        asyncio.run(scene(threads))
    assert source.closed.is_set()


def test_who_leaves_finds_every_generator_closed() -> None:
    sources = [Source(), Source(), Source(0)]

    async def scene(threads: ThreadPoolExecutor) -> None:
        async with Carried([source.events for source in sources], threads) as carried:
            await carried.some()
        assert all(source.closed.is_set() for source in sources)

    with pool() as threads:
        asyncio.run(scene(threads))


def test_a_time_limit_leaves_nothing_running() -> None:
    """The place was free and the generator went on."""
    begun, closed = threading.Event(), threading.Event()

    def events() -> Generator[Event]:
        try:
            yield Text("1")
            begun.set()
            time.sleep(0.2)
            yield Text("2")
        finally:
            closed.set()

    async def scene(threads: ThreadPoolExecutor) -> None:
        with anyio.CancelScope() as limit:  # as `fail_after` has one
            async with Carried([events], threads):
                while not begun.is_set():
                    await asyncio.sleep(0.01)
                limit.cancel()
                await asyncio.sleep(60)
        assert limit.cancelled_caught and closed.is_set()

    with pool() as threads:
        asyncio.run(scene(threads))


def test_a_reader_that_is_called_off_leaves_nothing_running() -> None:
    source = Source()

    async def scene(threads: ThreadPoolExecutor) -> None:
        async def listen() -> None:
            async with Carried([partial(source.events)], threads) as carried:
                while True:
                    await carried.some()

        task = asyncio.create_task(listen())
        while not source.made:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert source.closed.is_set()

    with pool() as threads:
        asyncio.run(scene(threads))
