"""What a person is still typing is read behind it, and is gone when they type something else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from waiting import until

from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.repl import reading
from chatcli.repl.reading import PAUSE_SECONDS, WORTH_READING, ReadAhead
from chatcli.repl.state import Chat
from chatcli.session import Session

LONG = "word " * WORTH_READING


class Talk:
    """A chat with a scripted engine that needs a while for each word."""

    def __init__(self, environment: Environment, seconds: float = 0.0) -> None:
        self.engine = ScriptedEngine(["Yes."], seconds_per_piece=seconds)
        self.session = Session(self.engine, GenerationSettings(), Store.in_memory(), system="Be kind.")
        self.ahead = ReadAhead(Chat(self.session, environment))

    @property
    def read(self) -> list[str]:
        return [conversation.messages[-1].text for conversation in self.engine.prepared]


@pytest.fixture
def talk(environment: Environment) -> Iterator[Talk]:
    made = Talk(environment)
    yield made
    made.ahead.stop()


def timers() -> list[threading.Thread]:
    """The pauses that are under way, and what is read behind them."""
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_pause_has_the_talk_with_the_draft_read_once(talk: Talk) -> None:
    talk.ahead.typed(lambda: LONG + "\n")
    until(lambda: talk.read)
    (conversation,) = talk.engine.prepared
    assert [(m.role, m.text) for m in conversation.messages] == [("system", "Be kind."), ("user", LONG.rstrip())]
    assert talk.session.conversation.exchanges == 0
    until(lambda: not timers())
    assert len(talk.read) == 1


def test_nothing_is_read_while_keys_come(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for number in range(10):
        # Between the keys before the last no machine is so slow as to make a pause.
        monkeypatch.setattr(reading, "PAUSE_SECONDS", 100 if number < 9 else PAUSE_SECONDS)
        talk.ahead.typed(lambda number=number: calls.append(LONG) or f"{LONG}{number}")  # type: ignore[misc]
    until(lambda: talk.read and not timers())
    assert talk.read == [f"{LONG}9"]
    assert len(calls) == 1  # a paste of megabytes is not put together for every key


@pytest.mark.parametrize("draft", ["short", "", "/save " + LONG, f"{LONG} @{reading.__file__}"])
def test_what_needs_no_reading_or_cannot_be_read_is_not(talk: Talk, draft: str) -> None:
    asked = threading.Event()
    talk.ahead.typed(lambda: asked.set() or draft)  # type: ignore[func-returns-value]
    asked.wait()
    until(lambda: not timers())
    assert talk.read == []


def test_another_key_ends_the_reading_and_the_next_draft_is_read(environment: Environment) -> None:
    talk = Talk(environment, seconds=0.5)  # minutes for the whole
    begun = threading.Event()
    talk.ahead.typed(lambda: begun.set() or LONG)  # type: ignore[func-returns-value]
    begun.wait()
    talk.ahead.typed(lambda: "x" * WORTH_READING)
    until(lambda: talk.read)
    assert talk.read == ["x" * WORTH_READING]


def test_when_it_has_stopped_the_engine_is_left_alone(environment: Environment) -> None:
    talk = Talk(environment, seconds=0.5)
    begun = threading.Event()
    talk.ahead.typed(lambda: begun.set() or LONG)  # type: ignore[func-returns-value]
    begun.wait()
    talk.ahead.stop()
    with closing(talk.session.say(LONG)) as events:
        list(events)
    until(lambda: not timers())
    assert talk.read == []
    assert talk.session.conversation.exchanges == 1


def test_an_engine_that_cannot_read_it_says_nothing(environment: Environment) -> None:
    """What is wrong is said when the question is asked."""
    from chatcli.errors import EngineError

    class Broken(ScriptedEngine):
        tried = threading.Event()

        def prepare(self, *_: object) -> Iterator[object]:  # type: ignore[override]
            self.tried.set()
            raise EngineError("no")
            yield

    engine = Broken(["Yes."])
    session = Session(engine, GenerationSettings(), Store.in_memory())
    ahead = ReadAhead(Chat(session, environment))
    ahead.typed(lambda: LONG)
    engine.tried.wait()
    ahead.stop()


def test_a_pause_that_ends_as_the_message_is_sent_reads_nothing(talk: Talk) -> None:
    """Its thread waits behind `stop`, and would then take a step with a model that is somebody else's."""
    asked: list[str] = []
    outdated = threading.Event()
    outdated.set()
    talk.ahead._read(lambda: asked.append("text") or LONG, outdated)
    assert asked == talk.read == []
