"""Events become the objects of the API."""

from __future__ import annotations

import json
import math

from chatcli.conversation import ToolCall
from chatcli.generation import Finished, Progress, Reasoning, Text, TokenLogprob, ToolCalled
from chatcli.openai.answers import ChatAnswer, Said, TextAnswer, usage

LOGPROBS = (
    TokenLogprob(1, "好", -0.5, (TokenLogprob(1, "好", -0.5), TokenLogprob(2, "no", -math.inf))),
    TokenLogprob(3, "\ufffd", -1.0),
)
ENDS = [Finished("stop", 10, 4, 8), Finished("length", 10, 3, 10), Finished("stop", 5, 2, 0), Finished("stop", 5, 1, 0)]


def said(*events: object) -> Said:
    made = Said()
    for event in events:
        made.add(event)  # type: ignore[arg-type]
    return made


def test_a_prompt_counts_once_for_all_its_choices() -> None:
    assert usage(ENDS[:2])["prompt_tokens"] == 10
    told = usage(ENDS, per_prompt=2)
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (15, 10, 25)
    assert told["prompt_tokens_details"] == {"cached_tokens": 8}
    assert usage([])["total_tokens"] == 0


def test_calls_are_numbered_within_their_choice() -> None:
    answer = ChatAnswer("m")
    calls = [ToolCalled(ToolCall(f"c{number}", "f", "{}")) for number in range(3)]
    told = [answer.chunk(choice, call) for choice, call in zip((0, 1, 0), calls, strict=True)]
    deltas = [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in told if chunk]
    assert [(each["index"], each["id"]) for each in deltas] == [(0, "c0"), (0, "c1"), (1, "c2")]
    whole = answer.whole([said(*calls, Finished("tool_calls"))])["choices"][0]
    assert whole["message"]["content"] is None and whole["finish_reason"] == "tool_calls"
    assert [call["id"] for call in whole["message"]["tool_calls"]] == ["c0", "c1", "c2"]


def test_what_a_client_is_not_told_of_makes_no_chunk() -> None:
    assert ChatAnswer("m").chunk(0, Progress("reading", 1, 2)) is None
    assert TextAnswer("m").chunk(0, Progress("reading", 1, 2)) is None
    assert TextAnswer("m").first(0) is None
    assert ChatAnswer("m").last(ENDS) is None and TextAnswer("m").last(ENDS) is None


def test_probabilities_are_json_whatever_they_are() -> None:
    chat = ChatAnswer("m").whole([said(Text("好"), Finished("stop", logprobs=LOGPROBS))])
    text = TextAnswer("m").whole([said(Text("好"), Finished("stop", logprobs=LOGPROBS))])
    json.dumps([chat, text], allow_nan=False)
    first, second = chat["choices"][0]["logprobs"]["content"]
    assert first["bytes"] == list("好".encode()) and first["top_logprobs"][1]["logprob"] == -9999.0
    assert second["bytes"] is None  # half a character
    assert text["choices"][0]["logprobs"]["text_offset"] == [0, 1]
    assert ChatAnswer("m").whole([said(Finished("stop"))])["choices"][0]["logprobs"] is None


def test_each_piece_comes_with_its_probabilities_and_the_end_with_those_of_none() -> None:
    """In a stream all of them came with the last piece."""
    events = (Reasoning("好", LOGPROBS[:1]), Text("x"), Finished("stop", logprobs=LOGPROBS))
    chat, text = ChatAnswer("m"), TextAnswer("m")
    told = [chunk["choices"][0]["logprobs"] for event in events if (chunk := chat.chunk(1, event))]
    assert [[each["token"] for each in one["content"]] if one else [] for one in told] == [["好"], [], ["\ufffd"]]
    bare = [chunk["choices"][0]["logprobs"] for event in events if (chunk := text.chunk(1, event))]
    assert [one["text_offset"] if one else [] for one in bare] == [[0], [], [1]]


def test_reasoning_is_apart_in_a_chat_and_part_of_bare_text() -> None:
    thought = said(Reasoning("Hm."), Text("Yes."), Finished("stop"))
    assert ChatAnswer("m").whole([thought])["choices"][0]["message"]["reasoning_content"] == "Hm."
    assert TextAnswer("m").whole([thought])["choices"][0]["text"] == "Hm.Yes."
    assert "reasoning_content" not in ChatAnswer("m").whole([said(Text("Yes."))])["choices"][0]["message"]


def test_every_chunk_of_an_answer_has_its_head() -> None:
    answer = TextAnswer("m", include_usage=True)
    chunks = [answer.chunk(3, Text("a")), answer.chunk(3, ENDS[0]), answer.last(ENDS)]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks if chunk}) == 1
    assert [chunk["usage"] is None for chunk in chunks if chunk] == [True, True, False]
