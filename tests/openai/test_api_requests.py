"""Requests become settings and conversations, or errors that name the field."""

from __future__ import annotations

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from chatcli.conversation import Attachment, Message, Tool, ToolCall
from chatcli.images import image_of
from chatcli.openai.errors import ApiError
from chatcli.openai.requests import chat_request, completion_request, embedding_request

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Now", "parameters": {"type": "object"}}}]


def chat(**fields: Any) -> Any:
    return chat_request({"model": "m", "messages": [USER], **fields})


def called(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


ENDLESS = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (2, 2), "red").save(file, "PNG")
    return file.getvalue()


def picture(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def test_what_is_said_of_sampling_becomes_settings() -> None:
    asked = chat(
        temperature=0.5, top_p=0.9, top_k=-1, min_p=0.1, repetition_penalty=1.1, seed=-1, stop="END", max_tokens=9
    )
    settings = asked.ways.settings
    assert (settings.temperature, settings.top_p, settings.top_k, settings.min_p) == (0.5, 0.9, 0, 0.1)
    assert (settings.repetition_penalty, settings.stop, settings.max_new_tokens) == (1.1, ("END",), 9)
    assert settings.seed is not None and settings.seed >= 0
    assert settings.overflow == "stop"  # nothing is left out unasked
    assert settings.top_logprobs is None and settings.think is None


def test_what_is_left_out_or_null_or_unknown_says_nothing() -> None:
    assert chat(temperature=None, stop=None, user="me", metadata={}, store=True, logit_bias={}, n=None) == chat()
    assert chat(frequency_penalty=0, presence_penalty=0.0, tools=[], response_format={"type": "text"}) == chat()


def test_the_newer_name_of_the_limit_is_the_stronger() -> None:
    assert chat(max_tokens=5, max_completion_tokens=7).ways.settings.max_new_tokens == 7


@pytest.mark.parametrize(
    ("fields", "think", "effort"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": True, "other": 1}}, True, None),
        ({"reasoning_effort": "minimal"}, None, "low"),
        ({"reasoning_effort": "high"}, None, "high"),
        ({"reasoning_effort": "none"}, False, None),
    ],
)
def test_how_much_is_thought(fields: dict[str, Any], think: bool | None, effort: str | None) -> None:
    settings = chat(**fields).ways.settings
    assert (settings.think, settings.reasoning_effort) == (think, effort)


def test_choices_with_a_seed_have_a_seed_each() -> None:
    ways = chat(seed=7, n=3).ways
    assert [ways.settings_of(choice).seed for choice in range(3)] == [7, 8, 9]
    assert chat(n=3).ways.settings_of(2).seed is None


def test_system_messages_are_one_and_come_first() -> None:
    asked = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            USER,
            {"role": "user", "content": [{"type": "text", "text": "Are you there?"}, {"type": "text", "text": "?"}]},
            {"role": "system", "content": "Be kind."},
            {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."},
            USER,
        ]
    )
    assert asked.conversation.messages == (
        Message("system", "Be brief.\n\nBe kind."),
        Message("user", "Hello\n\nAre you there?\n\n?"),
        Message("assistant", "Yes.", "Hm."),
        Message("user", "Hello"),
    )


def test_tools_their_calls_and_what_they_said() -> None:
    asked = chat(
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        messages=[
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c2", "content": "Rain"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "Sun"}]},
        ],
    )
    talk = asked.conversation
    assert talk.tools == (Tool("weather", "Now", '{"type": "object"}'),) and talk.tool_choice == "weather"
    calls = tuple(ToolCall(each, "weather", '{"city": "Ulm"}') for each in ("c1", "c2"))
    assert talk.messages[1:] == (
        Message("assistant", "", calls=calls),
        Message("tool", "Rain", call="c2"),
        Message("tool", "Sun", call="c1"),
    )
    assert not asked.parallel_calls and chat(tools=TOOLS).parallel_calls
    assert chat(tools=TOOLS, tool_choice="required").conversation.tool_choice == "required"


def test_a_picture_comes_as_its_bytes() -> None:
    asked = chat(**picture("data:image/png;base64," + base64.b64encode(png()).decode()))
    image = asked.conversation.messages[0].images[0]
    assert (image.media, image.data) == ("image/png", png())


def test_pictures_of_many_requests_are_not_all_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty requests with a picture of 64 million pixels took more memory than the machine has."""
    lock, now, most = threading.Lock(), [0], [0]

    def decode(data: bytes, name: str) -> Attachment:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return image_of(data, name)

    monkeypatch.setattr("chatcli.openai.messages.image_of", decode)
    asked = picture("data:image/png;base64," + base64.b64encode(png()).decode())
    with ThreadPoolExecutor(8) as pool:
        assert all(each.conversation.messages[0].images for each in pool.map(lambda _: chat(**asked), range(16)))
    assert most[0] <= 2


def test_the_pictures_of_a_request_have_so_many_pixels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of some megabytes could hold a hundred pictures that each took a second to decode."""
    monkeypatch.setattr("chatcli.openai.messages.MOST_PIXELS", 6)
    one = picture("data:image/png;base64," + base64.b64encode(png()).decode())["messages"]
    assert chat(messages=one).conversation.messages[0].images
    with pytest.raises(ApiError, match="pixels together") as refused:
        chat(messages=[*one, *one])
    assert refused.value.param == "messages[1].content[0].image_url.url"


def test_a_picture_for_a_model_that_sees_none_is_not_decoded() -> None:
    damaged = base64.b64encode(png()[:20]).decode()
    fields = {"model": "blind", **picture(f"data:image/png;base64,{damaged}")}
    with pytest.raises(ApiError, match="damaged"):
        chat_request(fields, lambda _: True)
    asked = chat_request(fields, lambda name: name != "blind")
    assert asked.conversation.messages[0].images[0].media == "image/png"


def test_a_schema_is_a_constraint() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    constraint = chat(
        response_format={"type": "json_schema", "json_schema": {"schema": schema}}
    ).ways.settings.constraint
    assert constraint.kind == "schema" and json.loads(constraint.text) == schema
    anything = chat(response_format={"type": "json_object"}).ways.settings.constraint
    assert json.loads(anything.text) == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        *(
            ({"messages": [USER, called(arguments)]}, "messages[1].tool_calls[0].function.arguments")
            for arguments in ("Ulm", "[1]", '{"a":' * 101 + "1" + "}" * 101, "[" * 5000)
        ),
        ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c9"}]}, "messages[1].tool_call_id"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        (picture("https://example.org/cat.png"), "messages[0].content[0].image_url.url"),
        (picture("data:image/png;base64,???"), "messages[0].content[0].image_url.url"),
        (picture("data:image/png;base64,aGVsbG8="), "messages[0].content[0].image_url.url"),
        (picture("file:///etc/passwd"), "messages[0].content[0].image_url.url"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"seed": -(10**400)}, "seed"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"functions": []}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 1}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
            "response_format",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"minimum": float("nan")}}}},
            "response_format",
        ),
        *(
            ({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, "response_format")
            for schema in (ENDLESS, {"type": "string", "pattern": "x*" * 2000})  # which were a 500 once answered
        ),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "auto"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"function": {"name": "other"}}}, "tool_choice.function.name"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("body", [[], "text", None, 5])
def test_a_request_is_an_object(body: object) -> None:
    for read in (chat_request, completion_request, embedding_request):
        with pytest.raises(ApiError, match="JSON object"):
            read(body)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([5, 6], ((5, 6),)), ([[5], [6, 7]], ((5,), (6, 7)))],
)
def test_prompts_of_completions(prompt: object, prompts: object) -> None:
    asked = completion_request({"prompt": prompt, "echo": False, "best_of": 1})
    assert asked.prompts == prompts and asked.ways.settings.max_new_tokens == 16


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 2}, "prompt"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "z"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
    ],
    ids=str,
)
def test_completions_that_cannot_be(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        completion_request(fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
    ],
    ids=str,
)
def test_embeddings_that_cannot_be(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        embedding_request(fields)
    assert refused.value.param == param
