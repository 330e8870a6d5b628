"""The line below the prompt: what it says, and what it leaves out where there is no room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.conversation import Conversation
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.generation import EngineFacts, Finished, GenerationSettings, Text
from chatcli.history.store import Store
from chatcli.repl.toolbar import WARNING, Toolbar, columns, fitted, short_name
from chatcli.session import Session

FACTS = EngineFacts("Qwen/Qwen3-0.6B", device="cuda:0", precision="bfloat16", context=4096)


class Engine(ScriptedEngine):
    def __init__(self, finished: Finished, facts: EngineFacts = FACTS, counted: int = 0) -> None:
        super().__init__([[Text("a"), finished]])
        self._facts, self._counted, self.counts = facts, counted, 0

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def count(self, conversation: Conversation) -> int:
        self.counts += 1
        return self._counted


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store.in_memory()) as opened:
        yield opened


def shown(session: Session, environment: Environment, monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    return "".join(text for _, text in Toolbar(session, environment)())


FINISHED = Finished("stop", 1000, 229, 900, 0.5, 5.7)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            100,
            " Qwen/Qwen3-0.6B  cuda:0 bfloat16  ███░░░░░░░ 1229 of 4096  40 tokens/s  90% cached",
        ),
        (80, " Qwen/Qwen3-0.6B  cuda:0 bfloat16  ███░░░░░░░ 1229 of 4096  40 tokens/s"),
        (60, " Qwen/Qwen3-0.6B  ███░░░░░░░ 1229 of 4096  40 tokens/s"),
        (50, " Qwen/Qwen3-0.6B  1229 of 4096  40 tokens/s"),
        (40, " Qwen/Qwen3-0.6B  1229 of 4096"),
        (24, " Qwen/Qwen3-0.6B  30%"),
        (20, " 30%  Qwen/Qwen3-0."),
        (6, " 30%"),
    ],
)
def test_what_has_no_room_is_left_out(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch, width: int, line: str
) -> None:
    session = Session(Engine(FINISHED), GenerationSettings(), store)
    list(session.say("q"))
    assert shown(session, environment, monkeypatch, width).rstrip() == line


def test_before_the_first_reply_there_are_no_numbers(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(Engine(FINISHED), GenerationSettings(), store)
    assert shown(session, environment, monkeypatch, 80) == " Qwen/Qwen3-0.6B  cuda:0 bfloat16"


@pytest.mark.parametrize(("used", "warned"), [(3276, False), (3277, True), (4096, True)])
def test_a_context_that_is_four_fifths_full_is_coloured(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch, used: int, warned: bool
) -> None:
    session = Session(Engine(Finished("stop", used - 1, 1)), GenerationSettings(), store)
    list(session.say("q"))
    for width in (100, 40, 20):
        monkeypatch.setenv("COLUMNS", str(width))
        assert any(style == WARNING for style, _ in Toolbar(session, environment)()) == warned


def test_after_undo_the_context_is_counted_anew_and_once(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(FINISHED, counted=50)
    session = Session(engine, GenerationSettings(), store)
    list(session.say("q1"))
    list(session.say("q2"))
    session.undo()
    monkeypatch.setenv("COLUMNS", "80")
    toolbar = Toolbar(session, environment)
    for _ in range(3):
        assert "50 of 4096" in "".join(text for _, text in toolbar())
    assert engine.counts == 1


def test_a_model_of_a_chinese_name_is_cut_between_characters(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(Engine(FINISHED, replace(FACTS, model="模型" * 20)), GenerationSettings(), store)
    line = shown(session, environment, monkeypatch, 20)
    assert line.endswith("模") and columns(line) <= 19


PIECES = st.lists(st.tuples(st.sampled_from(["", WARNING]), st.text("a字\x1b\n█ ", max_size=12)), max_size=5)


@given(layouts=st.lists(PIECES, min_size=1, max_size=4), width=st.integers(0, 60))
def test_the_line_is_never_wider_than_it_may_be(layouts: list[list[tuple[str, str]]], width: int) -> None:
    line = "".join(text for _, text in fitted(layouts, width))
    assert columns(line) <= width
    assert line.isprintable()


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("m @ home", "m @ home"),
        ("/models/tiny.gguf @ http://127.0.0.1:8000/v1", "tiny.gguf @ 127.0.0.1:8000"),
        ("org/m @ https://openrouter.ai/api/v1", "org/m @ openrouter.ai"),
        ("@ home", "home"),
        ("m @ unix:/run/chatcli/api.sock", "m @ api.sock"),
    ],
)
def test_a_model_of_a_server_is_told_with_where_it_is(name: str, short: str) -> None:
    assert short_name(name) == short
