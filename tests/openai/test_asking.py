"""What is sent to each kind of server for what was said, and that rows say what they can."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.errors import UsageError
from chatcli.generation import Constraint, GenerationSettings
from chatcli.openai.asking import Asking, asking, refused_parameters
from chatcli.openai.kinds import ServerKind, kind_named, kind_of_host, kinds

ASKED = Conversation((Message("user", "Is it?"),))
EVERYTHING = GenerationSettings(
    temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, repetition_penalty=1.1, max_new_tokens=9, stop=("a", "b"), seed=3,
    think=True, reasoning_effort="low", top_logprobs=2,
)  # fmt: skip


def asked(kind: str, settings: GenerationSettings = EVERYTHING, talk: Conversation = ASKED) -> Asking:
    return asking(talk, settings, kind_named(kind), "m", "home")


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.name)
def test_every_row_sends_json_and_tells_what_it_leaves_out(kind: ServerKind) -> None:
    made = asked(kind.name)
    json.dumps(made.body)
    assert {"temperature", "top_p", "stop", "messages", "model", "stream"} <= made.body.keys()
    assert made.body["stop"] == ["a", "b"]
    known = {field.name for field in fields(GenerationSettings)} | {"think_on", "think_off", "usage", "continue"}
    assert kind.send.keys() <= known
    assert kind.constraint.keys() <= {"schema", "regex", "choice"}
    sent = {name.partition("_o")[0] if name.startswith("think_") else name for name in kind.send}
    said = {"top_k", "min_p", "repetition_penalty", "think", "reasoning_effort", "top_logprobs"}
    assert set(made.left_out) == said - sent
    assert set(kind.finish.values()) <= {"stop", "length", "tool_calls", "filtered", "failed"}


def test_the_same_things_by_other_names() -> None:
    vllm, openai, llama = asked("vllm").body, asked("openai").body, asked("llama.cpp").body
    assert (vllm["repetition_penalty"], llama["repeat_penalty"]) == (1.1, 1.1)
    assert (vllm["max_tokens"], openai["max_completion_tokens"]) == (9, 9)
    assert vllm["chat_template_kwargs"] == {"enable_thinking": True}
    assert (vllm["logprobs"], vllm["top_logprobs"]) == (True, 2)
    assert vllm["stream_options"] == {"include_usage": True} and "stream_options" not in asked("other").body
    assert asked("mistral").body["random_seed"] == 3
    assert asked("openrouter").body["reasoning"] == {"effort": "low", "enabled": True}
    assert asked("ollama", GenerationSettings(think=False)).body["reasoning_effort"] == "none"


@pytest.mark.parametrize(
    ("kind", "constraint", "fragment"),
    [
        ("vllm", Constraint("regex", "[a-z]$"), {"structured_outputs": {"regex": "[a-z]$"}}),
        ("vllm", Constraint("choice", '["a", "b"]'), {"structured_outputs": {"choice": ["a", "b"]}}),
        ("vllm-guided", Constraint("choice", '["a"]'), {"guided_choice": ["a"]}),
        ("sglang", Constraint("regex", "a+"), {"regex": "a+"}),
        ("tgi", Constraint("regex", "a+"), {"response_format": {"type": "regex", "value": "a+"}}),
        ("llama.cpp", Constraint("choice", '["a\\"", "é"]'), {"grammar": 'root ::= "a\\"" | "é"'}),
        ("tgi", Constraint("schema", '{"type": "object"}'),
         {"response_format": {"type": "json", "value": {"type": "object"}}}),
    ],
)  # fmt: skip
def test_what_an_answer_is_held_to(kind: str, constraint: Constraint, fragment: dict[str, object]) -> None:
    body = asked(kind, GenerationSettings(constraint=constraint)).body
    assert {key: body[key] for key in fragment} == fragment


def test_what_a_kind_cannot_hold_is_refused_with_what_it_can() -> None:
    regex = GenerationSettings(constraint=Constraint("regex", "a"))
    with pytest.raises(
        UsageError, match=r"home is OpenAI, which cannot hold an answer to --regex; it can to --schema\."
    ):
        asked("openai", regex)
    with pytest.raises(UsageError, match=r"cannot hold an answer to --regex\."):
        asked("fastchat", regex)


def test_tools_calls_and_what_they_said() -> None:
    call = ToolCall("1", "weather", '{"city": "Oslo"}')
    talk = Conversation(
        (Message("user", "?"), Message("assistant", "", "Hm.", calls=(call,)), Message("tool", "Rain.", call="1")),
        (Tool("weather", "Of a city.", '{"type": "object"}'),),
        "weather",
    )
    body = asked("openai", GenerationSettings(), talk).body
    assert body["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    ]}  # fmt: skip
    assert body["messages"][2] == {"role": "tool", "content": "Rain.", "tool_call_id": "1"}
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


def test_only_what_a_refusal_names_is_given_up() -> None:
    body = {"model": "m", "messages": [], "seed": 1, "top_k": 2, "response_format": {}}
    assert refused_parameters(body, "seed", "") == {"seed"}
    assert refused_parameters(body, "", "Unknown field `top_k`.") == {"top_k"}
    assert refused_parameters(body, "", "extra fields not permitted: seed, top_k") == {"seed", "top_k"}
    assert refused_parameters(body, "messages[0].content", "The messages are not supported.") == frozenset()
    assert refused_parameters(body, "response_format", "response_format is unknown") == frozenset()
    assert refused_parameters(body, "", "top_k must be positive") == frozenset()


def test_services_are_known_by_their_hosts() -> None:
    found = kind_of_host("api.openai.com")
    assert found is not None and found.key_variable == "OPENAI_API_KEY"
    assert kind_of_host("api.openai.com.evil.example") is None
    with pytest.raises(UsageError, match='no kind of server "vlm"'):
        kind_named("vlm")
