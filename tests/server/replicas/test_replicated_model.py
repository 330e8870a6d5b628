"""A model behind replicas, with replicas that die as a script says; Ray's own errors, and no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from chatcli.conversation import Conversation, Message
from chatcli.errors import ContextOverflow, EngineError
from chatcli.generation import EngineFacts, Event, Finished, GenerationSettings, Progress, Text
from chatcli.server.replicas.served import TRIES, Loop, ReplicatedModel
from chatcli.wire import Failure

DIES = ActorDiedError()
WAITS = None
Step = "list[Event | Failure] | Exception | None"


class Answer:
    """What a streaming call of the handle returns."""

    def __init__(self, handle: Handle, script: Sequence[Any]) -> None:
        self._handle = handle
        self._script = script

    async def __aiter__(self) -> AsyncGenerator[Any]:
        for step in self._script:
            if step is WAITS:
                await asyncio.sleep(3600)
            if isinstance(step, Exception):
                raise step
            yield step

    def cancel(self) -> None:
        self._handle.cancelled += 1


class Handle:
    """Ray Serve's handle, of which each call plays the next script."""

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.cancelled = 0
        self._scripts = scripts

    def options(self, **_: object) -> Handle:
        return self

    def remote(self, *given: object) -> Answer:
        self.calls.append(given)
        return Answer(self, self._scripts[len(self.calls) - 1])


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


ASKED = Conversation((Message("user", "Hello?"),))


def heard(loop: Loop, handle: Handle) -> list[Event]:
    model = ReplicatedModel("m", handle, loop, EngineFacts("m"))
    return [event for event in model.stream(ASKED, GenerationSettings()) if event != Progress("waiting")]


WHOLE: list[list[Event]] = [[Progress("reading", 0, 3, "tokens")], [Text("Hi"), Text(" you")], [Finished("stop", 3, 2)]]
EVENTS = [event for some in WHOLE for event in some]


def test_lists_come_as_events(loop: Loop) -> None:
    handle = Handle(WHOLE)
    assert heard(loop, handle) == EVENTS
    assert handle.calls == [("m", ASKED, GenerationSettings())]


@pytest.mark.parametrize("lost", [[DIES], [[Progress("reading", 1, 3)], DIES], [ActorUnavailableError("gone", None)]])
def test_a_replica_that_dies_before_it_has_shown_anything_is_not_noticed(loop: Loop, lost: list[Any]) -> None:
    handle = Handle(lost, lost, WHOLE)
    assert [event for event in heard(loop, handle) if not isinstance(event, Progress)] == EVENTS[1:]
    assert len(handle.calls) == 3


def test_one_that_dies_in_the_middle_is_an_error_and_not_asked_for_again(loop: Loop) -> None:
    handle = Handle([*WHOLE[:2], DIES], WHOLE)
    with pytest.raises(EngineError, match="in the middle"):
        heard(loop, handle)
    assert len(handle.calls) == 1


def test_not_for_ever(loop: Loop) -> None:
    handle = Handle(*[[DIES]] * 10)
    with pytest.raises(EngineError, match="one after another"):
        heard(loop, handle)
    assert len(handle.calls) == TRIES


def test_an_error_of_the_engine_is_raised_as_it_was_there(loop: Loop) -> None:
    handle = Handle([[Failure.of(ContextOverflow("The prompt is too long."))]])
    with pytest.raises(ContextOverflow, match="too long"):
        heard(loop, handle)
    assert len(handle.calls) == 1


def test_who_leaves_while_nothing_comes_has_the_replica_stop(loop: Loop) -> None:
    handle = Handle([WAITS])
    model = ReplicatedModel("m", handle, loop, EngineFacts("m"))
    with closing(model.stream(ASKED, GenerationSettings())) as events:
        assert next(events) == Progress("waiting")
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop._loop).result()
    assert handle.cancelled == 1
