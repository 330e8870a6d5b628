"""A conversation and settings as the JSON of a chat completion that a kind of server takes.

What a kind does not take is left out and told, or refused where the answer would be another one without it. It
opens no connection.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.conversation import Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings
from chatcli.openai.kinds import ServerKind

_SAID = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed", "reasoning_effort")
_ALWAYS = frozenset({"model", "messages", "stream", "response_format", "structured_outputs", "tools", "tool_choice"})
"""What may not be left out when a server refuses it: without it the answer is to another question."""
_UNTOLD = frozenset({"seed", "usage"})
"""What nobody asked for is left out without a word: a seed is drawn for every answer."""

_ALSO_CALLED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""What a server that refuses a name may take by another: OpenAI has given the limit a new one."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The JSON of a request, and the settings that the server has no place for."""

    body: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def asking(
    conversation: Conversation,
    settings: GenerationSettings,
    kind: ServerKind,
    model: str,
    server: str,
    without: Collection[str] = (),
) -> Asking:
    """The request that asks `model` to answer; `server` is its name for people, `without` what it has refused.

    Raises:
        UsageError: the server cannot hold an answer to the constraint, or cannot go on with a reply.
    """
    body: dict[str, Any] = {"model": model, "messages": [_message(each) for each in conversation.messages]}
    body["stream"] = True
    left_out = []
    for name, value in _settings(settings):
        fragment = kind.send.get(name)
        if fragment is not None:
            _merge(body, _filled(fragment, value))
        elif name not in _UNTOLD:
            left_out.append(name.partition("_o")[0] if name.startswith("think_") else name)
    if conversation.unfinished:
        if "continue" not in kind.send:
            raise UsageError(f"{server} cannot go on with a reply that is begun: ask again instead.")
        _merge(body, kind.send["continue"])
    if settings.constraint:
        _merge(body, _constraint(settings.constraint.kind, settings.constraint.text, kind, server))
    if conversation.tools:
        body["tools"] = [
            {"type": "function", "function": {
                "name": each.name, "description": each.description, "parameters": json.loads(each.parameters),
            }}
            for each in conversation.tools
        ]  # fmt: skip
        named = conversation.tool_choice not in ("auto", "none", "required")
        choice = conversation.tool_choice
        body["tool_choice"] = {"type": "function", "function": {"name": choice}} if named else choice
    for name, other in _ALSO_CALLED.items():
        if name in without and name in body and other not in without:
            body[other] = body[name]
    return Asking({key: value for key, value in body.items() if key not in without or key in _ALWAYS}, tuple(left_out))


def refused_parameters(body: Mapping[str, Any], parameter: str, sentence: str) -> frozenset[str]:
    """The keys of a refused request that the refusal names, of those that it can go without.

    `parameter` is what the error itself calls the culprit, perhaps nothing.
    """
    culprit = parameter.partition(".")[0]
    optional = body.keys() - _ALWAYS
    if culprit in optional:
        return frozenset({culprit})
    words = sentence.lower()
    blamed = ("unsupported", "not supported", "unrecognized", "unknown", "unexpected", "not permitted", "not allowed")
    if not any(each in words for each in (*blamed, "extra", "does not support", "invalid parameter")):
        return frozenset()
    spelled = set("".join(each if each.isalnum() or each == "_" else " " for each in sentence).split())
    return frozenset(optional & spelled)


def _settings(settings: GenerationSettings) -> list[tuple[str, object]]:
    """What was said, by the names that a row's `send` has for it."""
    said = [(name, value) for name in _SAID if (value := getattr(settings, name)) not in (None, ())]
    said = [(name, list(value) if isinstance(value, tuple) else value) for name, value in said]
    if settings.max_new_tokens is not None:
        said.append(("max_new_tokens", settings.max_new_tokens))
    if settings.top_logprobs is not None:
        said.append(("top_logprobs", settings.top_logprobs))
    if settings.think is not None:
        said.append(("think_on" if settings.think else "think_off", settings.think))
    return [*said, ("usage", True)]


def _constraint(wanted: str, text: str, kind: ServerKind, server: str) -> Mapping[str, Any]:
    if wanted not in kind.constraint:
        there = [f"--{each}" for each in kind.constraint]
        raise UsageError(
            f"{server} is {kind.title}, which cannot hold an answer to --{wanted}"
            + (f"; it can to {' or '.join(there)}." if there else ".")
        )
    value = text if wanted == "regex" else json.loads(text)
    filled: Mapping[str, Any] = _filled(kind.constraint[wanted], value)
    return filled


def _filled(fragment: Any, value: object) -> Any:
    """A fragment of a row with the value in its place; a text alone is the name of a parameter."""
    if isinstance(fragment, str):
        return {fragment: value}
    return {key: _placed(each, value) for key, each in fragment.items()}


def _placed(fragment: Any, value: object) -> Any:
    if fragment == "$":
        return value
    if fragment == "$gbnf":
        return "root ::= " + " | ".join(json.dumps(each, ensure_ascii=False) for each in value)  # type: ignore[attr-defined]
    return {key: _placed(each, value) for key, each in fragment.items()} if isinstance(fragment, dict) else fragment


def _merge(body: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put `more` into the body, tables into tables."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(body.get(key), dict):
            _merge(body[key], value)
        else:
            body[key] = value


def _message(message: Message) -> dict[str, Any]:
    """One message; what was thought is not sent back, as the services ask."""
    said: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.images:
        pictures = [
            {"type": "image_url", "image_url": {"url": f"data:{each.media};base64,{_text_of(each.data)}"}}
            for each in message.images
        ]
        said["content"] = [*pictures, {"type": "text", "text": message.text}]
    if message.calls:
        said["tool_calls"] = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in message.calls
        ]
    if message.call:
        said["tool_call_id"] = message.call
    return said


def _text_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
