"""What a generator in a thread yields, a list at a time, for who passes it on to another process.

What goes there costs by the message, not by the item: a list holds all that came since the last one, and lists are
some time apart. It knows no item but that it has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor
from typing import TypeVar

from chatcli.server.carrying import Carried

PACE = 0.04
"""Seconds between two lists: nobody reads faster, and a message costs a millisecond of a core."""
_SLOWER = 0.01
"""By how many seconds the first lists get further apart: the first word is not kept back."""
_AHEAD = 4096
"""Items that wait for the reader: more than any model makes between two lists."""

Item = TypeVar("Item")


async def gathered(make: Callable[[], Generator[Item]], pool: Executor) -> AsyncGenerator[list[Item]]:
    """What the generator yields in a thread of `pool`; an error of it is raised behind what came before.

    Whoever closes this has the generator closed at its next item.
    """
    pause = 0.0
    async with Carried([make], pool, _AHEAD) as carried:
        while True:
            come = [item for _, item in await carried.some()]
            if items := [item for item in come if item is not None and not isinstance(item, Exception)]:
                yield items
            if isinstance(come[-1], Exception):
                raise come[-1]
            if come[-1] is None:
                return
            await asyncio.sleep(pause)
            pause = min(pause + _SLOWER, PACE)
