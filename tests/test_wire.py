"""What travels over a socket comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli import wire
from chatcli.conversation import Attachment, Conversation, Message
from chatcli.errors import ContextOverflow, EngineError, OutOfMemory
from chatcli.generation import (
    Constraint,
    EngineFacts,
    Finished,
    GenerationSettings,
    Layer,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
)
from chatcli.load_request import LoadRequest, Lora

texts = st.text(st.characters(codec=None))
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant"]),
    texts,
    reasoning=texts,
    attachments=st.lists(st.builds(Attachment, texts, st.integers(0, 9), texts, texts), max_size=2).map(tuple),
)
settings = st.builds(
    GenerationSettings,
    temperature=st.none() | st.floats(0, 2),
    stop=st.none() | st.lists(texts, max_size=2).map(tuple),
    seed=st.none() | st.integers(0, 2**63 - 1),
    think=st.none() | st.booleans(),
    constraint=st.none() | st.builds(Constraint, st.just("regex"), texts),
)
logprobs = st.lists(
    st.builds(TokenLogprob, st.integers(0, 9), texts, st.floats(-50, 0), st.just((TokenLogprob(1, "a", -1.0),))),
    max_size=2,
)
events = st.one_of(
    st.builds(Text, texts),
    st.builds(Reasoning, texts),
    st.builds(Progress, texts, st.integers(0, 9), st.integers(0, 9), texts, texts),
    st.builds(Finished, st.sampled_from(["stop", "length"]), st.integers(0, 9), logprobs=logprobs.map(tuple)),
)
requests = st.builds(
    LoadRequest,
    dtype=texts,
    devices=st.lists(st.integers(0, 9), max_size=2).map(tuple),
    max_memory=st.dictionaries(st.integers(0, 7) | st.just("cpu"), st.integers(0, 2**40)),
    loras=st.lists(st.builds(Lora, texts, st.floats(0, 1)), max_size=2).map(tuple),
)
values = st.one_of(
    events,
    st.builds(
        wire.Ask, texts, st.lists(messages, max_size=3).map(lambda m: Conversation(tuple(m))), settings, st.floats(0)
    ),
    st.builds(wire.Spec, texts, texts, texts, st.booleans(), requests, texts, texts),
    st.builds(EngineFacts, texts, layers=st.lists(st.builds(Layer, texts, settings), max_size=2).map(tuple)),
)


@given(values)
def test_a_value_travels_whole_in_one_line(value: object) -> None:
    line = wire.encode(value)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert wire.decode(line) == value


def test_bytes_travel() -> None:
    assert wire.decode(wire.encode((b"\0\xff", "a"))) == (b"\0\xff", "a")


@pytest.mark.parametrize("error", [OutOfMemory("full"), ContextOverflow("long"), EngineError("broken")])
def test_an_error_is_raised_again_as_what_it_was(error: OutOfMemory) -> None:
    again = wire.decode(wire.encode(wire.Failure.of(error))).error
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("kind", ["SystemExit", "ChatcliError.__init__", "annotations", "INTERRUPTED"])
def test_no_other_name_becomes_an_error_of_that_class(kind: str) -> None:
    assert type(wire.Failure(kind, "text").error) is EngineError


@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"is": "Popen"}', b'{"no": 1}', b'{"is": "Text", "wrong": 1}', b"[" * 10**5]
)
def test_a_line_that_is_none_of_ours_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode(line)
