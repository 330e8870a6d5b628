"""The engine behind the typing: waits, failures, cancellation."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from chatcli.conversation import Conversation, Message
from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import ModelNotFound
from chatcli.generation import Engine, GenerationSettings, Progress, Text

HELLO = Conversation((Message("user", "hello"),))


class Gate:
    """Opens an engine when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_open = threading.Event()
        self.engine = ScriptedEngine(["hi there"])
        self._error = error

    def open(self, report: Report) -> Engine:
        report(Progress("loading", 1, 2, "B"))
        report(Progress("loading", note="It is spread over two GPUs."))
        assert self.may_open.wait()
        if self._error:
            raise self._error
        return self.engine


def test_the_first_question_waits_and_hears_what_is_under_way() -> None:
    gate = Gate()
    engine = DeferredEngine(gate.open, name="m")
    assert engine.facts.model == "m"
    events = engine.stream(HELLO, GenerationSettings())
    while next(events) != Progress("loading", 1, 2, "B"):
        pass
    gate.may_open.set()
    rest = list(events)
    assert [e.note for e in rest if isinstance(e, Progress) and e.note] == ["It is spread over two GPUs."]
    assert "".join(e.text for e in rest if isinstance(e, Text)) == "hi there"
    assert engine.facts.model == "scripted"
    assert engine.progress is None
    assert not any(isinstance(e, Progress) and e.note for e in engine.stream(HELLO, GenerationSettings()))


def test_a_failure_to_open_reaches_whoever_asks_every_time() -> None:
    gate = Gate(ModelNotFound("There is no such model."))
    engine = DeferredEngine(gate.open)
    gate.may_open.set()
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            list(engine.stream(HELLO, GenerationSettings()))
    assert isinstance(engine.error, ModelNotFound)


def test_waiting_can_be_given_up_at_once() -> None:
    gate = Gate()
    engine = DeferredEngine(gate.open)
    with closing(engine.stream(HELLO, GenerationSettings())) as events:
        next(events)
    assert gate.engine.asked == []
    assert not gate.may_open.is_set()
    gate.may_open.set()
