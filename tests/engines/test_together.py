"""Conversations answered together come out as each would alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.adapters.table import shipped
from chatcli.constraints import choice
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import ContextOverflow, UsageError
from chatcli.generation import Finished, GenerationSettings, Text
from chatcli.models.checkpoint import open_checkpoint

Asked = list[tuple[Conversation, GenerationSettings]]


def engine_of(folder: Path) -> LocalEngine:
    return open_local(open_checkpoint(folder), shipped(), lambda progress: None)


def ask(text: str, **settings: object) -> tuple[Conversation, GenerationSettings]:
    return Conversation((Message("user", text),)), GenerationSettings(**{"max_new_tokens": 12, **settings})  # type: ignore[arg-type]


ASKED: Asked = [
    ask("Hello there", temperature=0.0),
    ask("你好，请介绍一下北京。" * 5, temperature=0.0),
    ask("x", temperature=0.9, seed=3),
    ask("A longer question than the others, about nothing at all.", temperature=0.0, max_new_tokens=30),
    ask("Stop", temperature=0.0, stop=("e",)),
    ask("One of two", temperature=1.0, seed=5, constraint=choice(["left", "right"])),
]


def alone(engine: LocalEngine, conversation: Conversation, settings: GenerationSettings) -> tuple[str, str, int]:
    with closing(engine.stream(conversation, settings)) as events:
        told = list(events)
    finished = told[-1]
    assert isinstance(finished, Finished)
    return "".join(e.text for e in told if isinstance(e, Text)), finished.reason, finished.completion_tokens


@pytest.mark.parametrize("family", ["llama", "lfm2"])
def test_answers_are_those_of_each_alone(family: str, make_checkpoint: Callable[..., Path]) -> None:
    """A running state cannot be padded: with convolutions, conversations are read one by one."""
    own = {"layer_types": ["conv", "full_attention"]} if family == "lfm2" else {}
    engine = engine_of(make_checkpoint(family, seed=2, **own))
    answers = {answer.index: answer for answer in engine.answer_together(ASKED)}
    assert sorted(answers) == list(range(len(ASKED)))
    for index, (conversation, settings) in enumerate(ASKED):
        found = answers[index]
        assert found.error is None
        told = (found.message.text, found.finished.reason, found.finished.completion_tokens)
        assert told == alone(engine, conversation, settings)


def test_a_question_that_is_too_long_fails_alone(tiny_llama: Path) -> None:
    asked = [ask("word " * 2000), ask("Hello", temperature=0.0), ask("x", constraint=None)]
    answers = {answer.index: answer for answer in engine_of(tiny_llama).answer_together(asked)}
    assert isinstance(answers[0].error, ContextOverflow | UsageError)
    assert answers[1].error is None and answers[1].message.text
    assert answers[2].error is None
