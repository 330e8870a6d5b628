"""Streams as the servers write them, recorded from their documentation and source, become the same events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcli.conversation import ToolCall
from chatcli.generation import Event, Reasoning, Text, TokenLogprob, ToolCalled
from chatcli.openai.kinds import UNKNOWN, kinds
from chatcli.openai.received import Answer, ServerFailure, sentence

GOLDEN = Path(__file__).parent.parent / "golden" / "servers"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.sse"))


def told(name: str, cuts: list[int]) -> dict[str, Any]:
    """What comes out of a recorded stream, in the form of its expectation."""
    expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    data = (GOLDEN / f"{name}.sse").read_bytes()
    answer = Answer(kinds()[expected["kind"]])
    ends = sorted({min(cut, len(data)) for cut in cuts})
    events: list[Event] = []
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        events += answer.push(data[start:end])
    events += answer.flush()
    calls = [event.call for event in events if isinstance(event, ToolCalled)]
    return {
        "kind": expected["kind"],
        "text": "".join(event.text for event in events if isinstance(event, Text)),
        "reasoning": "".join(event.text for event in events if isinstance(event, Reasoning)),
        "reason": answer.reason,
        "usage": [answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens],
        "calls": [[call.id, call.name, call.arguments] for call in calls],
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_stream_is_understood(name: str) -> None:
    assert told(name, []) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.lists(st.integers(0, 3000), max_size=40))
def test_where_a_stream_is_cut_does_not_matter(name: str, cuts: list[int]) -> None:
    assert told(name, cuts) == told(name, [])


def read(*said: object, kind: str = UNKNOWN) -> tuple[Answer, list[Event]]:
    answer = Answer(kinds()[kind])
    events = list(answer.push(b"".join(map(event_of, said))))
    return answer, [*events, *answer.flush()]


def event_of(said: object) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


def delta(**fields: object) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def test_a_whole_answer_in_one_object() -> None:
    said = {
        "choices": [{"message": {"content": "<think>\nHm.\n</think>\n\nYes."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 9},
    }
    answer = Answer(kinds()["fastchat"])
    assert list(answer.whole(json.dumps(said).encode())) == [Reasoning("Hm."), Text("Yes.")]
    assert (answer.reason, answer.prompt_tokens, answer.completion_tokens) == ("stop", 3, 9)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"error": {"message": "out of memory", "code": 500}}, "out of memory"),
        ({"error": "The engine died.\x1b[31m"}, "The engine died.\ufffd[31m"),
        ({"object": "error", "message": "overloaded", "code": 50001}, "overloaded"),
        ({"choices": [{"delta": {}, "error": {"message": "upstream"}, "finish_reason": "error"}]}, "upstream"),
        ({"choices": [{"delta": {}, "finish_reason": "abort"}]}, "it broke off its answer (abort)"),
        ({"error": {"message": "Provider", "metadata": {"raw": "the real cause"}}}, "the real cause"),
    ],
)
def test_an_error_within_the_stream_is_told_in_the_servers_words(said: object, sentence: str) -> None:
    answer, got = Answer(kinds()[UNKNOWN]), list[Event]()
    with pytest.raises(ServerFailure) as failure:
        for event in answer.push(b"".join(event_of(each) for each in (delta(content="So far"), said))):
            got.append(event)
    assert (got, str(failure.value)) == ([Text("So far")], sentence)


def test_an_error_whose_event_has_no_end_comes_behind_what_was_held_back() -> None:
    answer, got = Answer(kinds()[UNKNOWN]), list[Event]()
    got += answer.push(event_of(delta(content="<thi")) + event_of({"error": {"message": "died"}})[:-2])
    with pytest.raises(ServerFailure, match="died"):
        for event in answer.flush():
            got.append(event)
    assert got == [Text("<thi")]


def test_what_is_no_json_is_an_error_and_shows_no_escape_codes() -> None:
    with pytest.raises(ServerFailure, match="no JSON: \ufffd\\[2Jhello"):
        list(Answer(kinds()[UNKNOWN]).push(b"data: \x1b[2Jhello\n\n"))


@pytest.mark.parametrize(
    "said",
    [1, [], None, "text", {}, {"choices": None}, {"choices": [None]}, {"choices": [{"delta": "x"}]},
     delta(content=5), delta(content=[None, 5]), delta(tool_calls=[None, {}]),
     delta(tool_calls=5), delta(tool_calls=True), {"usage": [], "choices": {}},
     {"choices": [{"logprobs": {"content": [None, {"token": 1}]}, "finish_reason": 3}]}],
)  # fmt: skip
def test_json_of_another_shape_is_no_crash(said: object) -> None:
    _, events = read(said, delta(content="on"))
    assert [event for event in events if isinstance(event, Text)] == [Text("on")]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "tool_calls", "usage", "message", "index", "logprobs", "id",
                         "function", "arguments", "reasoning", "finish_reason"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_no_json_is_a_crash(said: object) -> None:
    try:
        read(said)
    except ServerFailure as failure:
        assert str(failure)


def test_counts_that_nobody_could_have_counted_are_none() -> None:
    """A database takes no such number, and the answer was lost when it was to be saved."""
    usage = {"prompt_tokens": 10**30, "completion_tokens": 1 << 53, "total_tokens": True}
    answer, _ = read({"usage": usage, "choices": []})
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 0)


def test_probabilities_in_odd_forms_are_passed_over() -> None:
    deep: dict[str, Any] = {"token": "a", "logprob": -1}
    for _ in range(300):
        deep = {"token": "a", "logprob": -1, "top_logprobs": [deep]}
    answer, _ = read({"choices": [{"logprobs": {"content": [{"token": "b", "logprob": 10**400}, deep]}}]})
    assert answer.logprobs == [TokenLogprob(-1, "a", -1.0, (TokenLogprob(-1, "a", -1.0),))]


@pytest.mark.parametrize("place", [None, 5, "x"])
def test_the_place_of_an_error_may_be_anything(place: object) -> None:
    detail = [{"loc": ["body", "n"], "msg": "too many"}, {"loc": place, "msg": "wrong"}]
    assert sentence({"detail": detail}, kinds()[UNKNOWN]) == "body.n: too many; wrong"


def test_deep_nesting_is_no_crash() -> None:
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    assert read(delta(reasoning_details=deep))[1] == []
    with pytest.raises(ServerFailure, match="no JSON"):
        list(Answer(kinds()[UNKNOWN]).push(b"data: " + b"[" * 100_000 + b"\n\n"))


def test_tool_calls_without_index_without_id_or_with_a_table_of_arguments() -> None:
    answer, events = read(
        delta(tool_calls=[{"function": {"name": "a", "arguments": {"x": 1}}}]),
        delta(tool_calls=[{"id": "2", "function": {"name": "b", "arguments": "{"}}]),
        delta(tool_calls=[{"id": "2", "function": {"arguments": "}"}}]),
        delta(tool_calls=[{"id": "3", "function": {"name": "c\x1b", "arguments": None}}]),
        {"choices": [{"finish_reason": "stop"}]},
    )
    calls = [ToolCall("call_0", "a", '{"x": 1}'), ToolCall("2", "b", "{}"), ToolCall("3", "c\ufffd", "{}")]
    assert events == [ToolCalled(call) for call in calls]
    assert answer.reason == "tool_calls"


def test_log_probabilities_come_with_the_tokens_beside_them() -> None:
    top = [{"token": "a", "logprob": -0.5, "id": 7}, {"token": "b", "logprob": -1}]
    said = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": top}]}}]}  # fmt: skip
    answer, _ = read(said)
    others = (TokenLogprob(7, "a", -0.5), TokenLogprob(-1, "b", -1.0))
    assert answer.logprobs == [TokenLogprob(-1, "a", -0.5, others)]


def test_a_filter_is_told_and_what_comes_behind_the_end_is_not_read() -> None:
    answer, _ = read({"choices": [{"delta": {"content": "x"}, "finish_reason": "content_filter"}]})
    assert answer.filtered and answer.reason == "stop"
    answer = Answer(kinds()[UNKNOWN])
    assert list(answer.push(b"data: [DONE]\n\ndata: {broken\n\n")) == []
    assert answer.done


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatcli.openai import received

    monkeypatch.setattr(received, "MOST_CHARACTERS", 100)
    with pytest.raises(ServerFailure, match="does not end"):
        read(*[delta(content="x" * 30)] * 4)
    with pytest.raises(ServerFailure, match="do not end"):
        read(*[delta(tool_calls=[{"index": 0, "function": {"arguments": "x" * 60}}])] * 2)
    with pytest.raises(ServerFailure, match="too many"):
        read(delta(tool_calls=[{"id": str(n), "function": {}} for n in range(200)]))
    with pytest.raises(ServerFailure, match="does not end"):
        read(*[{"choices": [{"logprobs": {"content": [{"token": "", "logprob": -1}] * 60}}]}] * 2)
