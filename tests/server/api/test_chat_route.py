"""Chat completions over a real socket, from an engine that says what it was told to."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from api_server import serving

from chatcli.engines.scripted import ScriptedEngine

CLIENT = httpx.Client()
QUESTION = {"model": "scripted", "messages": [{"role": "user", "content": "How are you?"}]}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving({"scripted": ScriptedEngine(["Fine, thank you."])}) as address:
        yield address


def test_a_question_is_answered(address: str) -> None:
    answer = CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["object"] == "chat.completion" and told["model"] == "scripted"
    assert told["choices"][0]["message"] == {"role": "assistant", "content": "Fine, thank you.", "refusal": None}
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"] > 0


def test_an_answer_is_streamed_piece_by_piece(address: str) -> None:
    wanted = {**QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    with CLIENT.stream("POST", f"{address}/v1/chat/completions", json=wanted) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    *spoken, end, usage = chunks
    deltas = [chunk["choices"][0]["delta"] for chunk in spoken]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta["content"] for delta in deltas[1:]] == ["Fine, ", "thank ", "you."]
    assert end["choices"][0]["finish_reason"] == "stop" and end["usage"] is None
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 3


def test_the_models_are_listed(address: str) -> None:
    listed = CLIENT.get(f"{address}/v1/models").json()
    assert listed["object"] == "list" and [each["id"] for each in listed["data"]] == ["scripted"]
    assert CLIENT.get(f"{address}/v1/models/scripted").json() == listed["data"][0]
    assert CLIENT.get(f"{address}/v1/models/another").json()["error"]["code"] == "model_not_found"


def test_half_a_character_is_a_question_mark_and_a_whole_one_stays() -> None:
    engine = ScriptedEngine(["Fine."])
    body = rb'{"messages": [{"role": "user", "content": "\ud800 \ud83d\ude00 \uD83D\uDE00"}]}'
    with serving({"scripted": engine}) as address:
        headers = {"Content-Type": "application/json"}
        assert CLIENT.post(f"{address}/v1/chat/completions", content=body, headers=headers).status_code == 200
    assert engine.asked[0].messages[0].text == "? 😀 😀"
