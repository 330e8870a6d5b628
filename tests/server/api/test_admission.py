"""So many are answered, so many wait, the rest are told to come back."""

from __future__ import annotations

import asyncio

import pytest

from chatcli.openai.errors import ApiError
from chatcli.server.api.admission import Admission


async def settled() -> None:
    """All that can happen now has happened: nothing here waits for anything but the others."""
    for _ in range(20):
        await asyncio.sleep(0)


async def stay(admission: Admission, order: list[int], number: int, leave: asyncio.Event, count: int = 1) -> None:
    async with admission.place(count):
        order.append(number)
        await leave.wait()


def test_who_came_first_is_let_in_first() -> None:
    async def scene() -> None:
        admission, order = Admission(2, 10), list[int]()
        leave = [asyncio.Event() for _ in range(5)]
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(stay(admission, order, number, leave[number], count=1 + (number == 2))))
            await asyncio.sleep(0)
        assert (order, admission.running, admission.waiting) == ([0, 1], 2, 3)
        leave[0].set()
        await settled()
        assert order == [0, 1]  # the third wants two places, and nobody overtakes it
        leave[1].set()
        await settled()
        assert (order, admission.running) == ([0, 1, 2], 2)
        for event in leave:
            event.set()
        await asyncio.gather(*tasks)
        assert (order, admission.running, admission.waiting) == ([0, 1, 2, 3, 4], 0, 0)

    asyncio.run(scene())


def test_a_full_queue_says_when_to_come_back() -> None:
    async def scene() -> None:
        admission, leave = Admission(1, 1), asyncio.Event()
        tasks = [asyncio.create_task(stay(admission, [], number, leave)) for number in range(2)]
        await settled()
        with pytest.raises(ApiError) as refused:
            async with admission.place():
                raise AssertionError
        assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
        assert refused.value.headers["X-Should-Retry"] == "true"
        leave.set()
        await asyncio.gather(*tasks)
        async with admission.place():
            assert admission.running == 1

    asyncio.run(scene())


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "when it was just let in"])
def test_who_leaves_the_queue_leaves_no_gap(late: bool) -> None:
    async def scene() -> None:
        admission, leave, order = Admission(1, 5), asyncio.Event(), list[int]()
        tasks = [asyncio.create_task(stay(admission, order, number, leave)) for number in range(3)]
        await settled()
        if late:
            leave.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        tasks[1].cancel()
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order[0] == 0 and order[-1] == 2
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(scene())


def test_more_places_than_there_are_is_all_of_them() -> None:
    async def scene() -> None:
        admission = Admission(2, 0)
        async with admission.place(16):
            assert admission.running == 2
        assert admission.running == 0

    asyncio.run(scene())
