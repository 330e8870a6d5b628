"""Requests that are small to send and large to answer: refused before anything is computed for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from api_server import serving

from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import EngineError

CLIENT = httpx.Client()
CONTEXT = 4096
USER = {"role": "user", "content": "How are you?"}
LONG = "hello " * (CONTEXT * 64 // 6 + 1)


def tool(name: str, description: str = "", parameters: object = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def called(text: str) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": json.dumps({"text": text})}
    answered = {"role": "tool", "tool_call_id": "c", "content": "Fine."}
    return [USER, {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]}, answered]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving({"m": ScriptedEngine(["Fine."])}) as address:
        yield address


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ("/v1/chat/completions", {"messages": called(LONG)}, "messages"),
        ("/v1/chat/completions", {"messages": [USER], "tools": [tool("f", LONG)]}, "messages"),
        ("/v1/chat/completions", {"messages": [USER], "tools": [tool("f", "", {"title": LONG})]}, "messages"),
        ("/v1/chat/completions", {"messages": [USER], "tools": [tool(f"f{n}") for n in range(CONTEXT)]}, "messages"),
        (
            "/v1/chat/completions",
            {"messages": [USER, {"role": "assistant", "content": "x"}] * (CONTEXT // 2) + [USER]},
            "messages",
        ),
        ("/v1/completions", {"prompt": LONG}, "prompt"),
        ("/v1/embeddings", {"input": LONG}, "input"),
        ("/tokenize", {"prompt": LONG}, "prompt"),
    ],
    ids=["message", "call", "description", "schema", "tools", "messages", "completion", "embedding", "tokenize"],
)
def test_what_cannot_fit_is_refused_before_it_is_counted(
    address: str, path: str, fields: dict[str, Any], param: str
) -> None:
    refused = CLIENT.post(address + path, json=fields).json()["error"]
    assert (refused["code"], refused["param"]) == ("context_length_exceeded", param)


@pytest.mark.parametrize("depth", [100, 300, 900])
def test_what_is_nested_too_deeply_is_refused(address: str, depth: int) -> None:
    """Deep JSON parses, and broke the templates and the grammars that walked through it: an error 500."""
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    asked = {"messages": [USER], "tools": [tool("f", "", schema)]}
    refused = CLIENT.post(f"{address}/v1/chat/completions", json=asked)
    assert refused.status_code == 400 and "nested too deeply" in refused.text


def test_what_is_nested_a_little_is_not(address: str) -> None:
    schema: dict[str, Any] = {}
    for _ in range(90):
        schema = {"items": schema}
    asked = {"messages": [USER], "tools": [tool("f", "", schema)]}
    assert CLIENT.post(f"{address}/v1/chat/completions", json=asked).status_code == 200


def test_what_a_model_cannot_do_is_no_defect(capfd: pytest.CaptureFixture[str]) -> None:
    """A replica that is gone was told as a defect of ours, for it ends in an error of the engine."""

    class Gone(ScriptedEngine):
        def tokenize(self, text: str) -> list[int]:
            raise EngineError("No replica of m answers; ask later.")

        def detokenize(self, ids: Sequence[int]) -> str:
            raise EngineError("No replica of m answers; ask later.")

    with serving({"m": Gone([""])}) as address:
        for path, fields in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [5]})):
            refused = CLIENT.post(address + path, json=fields)
            assert (refused.status_code, refused.json()["error"]["code"]) == (500, "engine_error")
        assert CLIENT.post(f"{address}/detokenize", json={"tokens": [1 << 31]}).status_code == 400
    assert "defect" not in capfd.readouterr().err
