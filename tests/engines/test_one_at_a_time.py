"""One model for many threads: every answer whole, whoever waits can leave."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.one_at_a_time import OneAtATime, open_served
from chatcli.generation import Event, Finished, GenerationSettings, Progress, Text
from chatcli.load_request import NOTHING_SAID
from chatcli.models.checkpoint import open_checkpoint

GREEDY = GenerationSettings(temperature=0, max_new_tokens=8)


@pytest.fixture(scope="module")
def served(tiny_llama: Path) -> OneAtATime:
    return open_served(open_checkpoint(tiny_llama, "tiny"), shipped(), lambda _: None, NOTHING_SAID)


def question(number: int) -> Conversation:
    return Conversation((Message("user", f"Hello {number}"),))


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_many_at_once_are_answered_as_each_alone(served: OneAtATime) -> None:
    alone = [text(list(served.stream(question(number), GREEDY))) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda number: text(list(served.stream(question(number), GREEDY))), range(6)))
    assert together == alone and len(set(alone)) > 1


def test_who_waits_hears_of_it_and_may_leave(served: OneAtATime) -> None:
    first = served.stream(question(1), GREEDY)
    next(first)
    second = served.stream(question(2), GREEDY)
    assert next(second) == Progress("waiting")
    second.close()
    first.close()
    assert isinstance(list(served.stream(question(3), GREEDY))[-1], Finished)
