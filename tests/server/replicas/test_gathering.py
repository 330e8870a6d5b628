"""Lists of what a generator in a thread yields."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatcli.server.replicas.gathering import gathered


async def all_of(pool: ThreadPoolExecutor, items: Generator[int]) -> tuple[list[list[int]], str]:
    lists: list[list[int]] = []
    try:
        async for some in gathered(lambda: items, pool):
            lists.append(some)
    except RuntimeError as error:
        return lists, str(error)
    return lists, ""


@pytest.fixture
def pool() -> Generator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def test_all_that_comes_is_passed_on_in_order_and_few_lists_hold_it(pool: ThreadPoolExecutor) -> None:
    lists, error = asyncio.run(all_of(pool, (n for n in range(5000))))
    assert [n for some in lists for n in some] == list(range(5000))
    assert all(lists)
    assert len(lists) < 100
    assert not error


def test_an_error_comes_behind_what_came_before_it(pool: ThreadPoolExecutor) -> None:
    def failing() -> Generator[int]:
        yield 1
        yield 2
        raise RuntimeError("broken")

    lists, error = asyncio.run(all_of(pool, failing()))
    assert [n for some in lists for n in some] == [1, 2]
    assert error == "broken"


def test_the_first_item_does_not_wait_for_the_second(pool: ThreadPoolExecutor) -> None:
    go_on = threading.Event()

    def waiting() -> Generator[int]:
        yield 1
        go_on.wait()
        yield 2

    async def read() -> list[list[int]]:
        lists = []
        async for some in gathered(waiting, pool):
            lists.append(some)
            go_on.set()
        return lists

    assert asyncio.run(read()) == [[1], [2]]


def test_who_leaves_has_the_generator_closed(pool: ThreadPoolExecutor) -> None:
    closed = threading.Event()

    def endless() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async def leave() -> None:
        events = gathered(endless, pool)
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    closed.wait()
