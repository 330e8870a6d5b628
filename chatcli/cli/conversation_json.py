"""A conversation as JSON, for `chatcli adapters render`: what it may say, and what is wrong with it in one sentence.

Knows JSON and the types of a conversation; it knows no template.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.config import check
from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings

_KEYS = ("system", "messages", "tools", "documents", "think", "reasoning_effort")
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_KEYS = {"role", "content", "reasoning_content", "tool_calls", "tool_call_id"}
_SHAPE = '{"system": "...", "messages": [{"role": "user", "content": "..."}]}'


@dataclass(frozen=True, slots=True)
class Given:
    """What the JSON said; tools and documents, as they are written, are None where it said nothing of them."""

    conversation: Conversation
    tools: list[Any] | None
    documents: list[Any] | None
    settings: GenerationSettings


def conversation_from_json(text: str) -> Given:
    """Read `{"system": ..., "messages": [...]}`; tools, documents, think and reasoning_effort may be there, too.

    Raises:
        UsageError: it is no JSON, or none of this shape.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "is empty" if not text.strip() else f"is no JSON ({str(error) or 'nested too deeply'})"
        raise UsageError(f"Standard input {reason}: it must be {_SHAPE}.") from error
    if not isinstance(said, Mapping) or not isinstance(said.get("messages"), list):
        raise UsageError(f"Standard input is no conversation: it must be {_SHAPE}.")
    for key in said:
        if key not in _KEYS:
            raise UsageError(f'The conversation has an unknown key "{key}": it may have {", ".join(_KEYS)}.')
    messages = tuple(_message(number, each) for number, each in enumerate(said["messages"], 1))
    system = said.get("system")
    if system is not None and not isinstance(system, str):
        raise UsageError("The conversation's system message must be a text.")
    if any(m.role == "system" for m in messages[1:]) or (
        system is not None and messages and messages[0].role == "system"
    ):
        raise UsageError("There can be one system message, at the beginning.")
    # An empty system message is one: templates put their own default where there is none.
    head = () if system is None else (Message("system", system),)
    tools = _list(said, "tools")
    return Given(
        Conversation((*head, *messages), tools=tuple(_tools(tools or ()))),
        tools,
        _list(said, "documents"),
        GenerationSettings(**{k: check(k, said[k]) for k in ("think", "reasoning_effort") if said.get(k) is not None}),  # type: ignore[arg-type]
    )


def _message(number: int, said: object) -> Message:
    if isinstance(said, Mapping) and said.get("tool_calls") and said.get("content") is None:
        said = {**said, "content": ""}  # as OpenAI's API has it
    if not isinstance(said, Mapping) or not isinstance(said.get("content"), str):
        raise UsageError(f'Message {number} must be an object with a "role" and a "content" that is a text.')
    role, thought, answered = said.get("role"), said.get("reasoning_content"), said.get("tool_call_id")
    if role not in _ROLES:
        shown = json.dumps(role, ensure_ascii=False)[:60]
        raise UsageError(f"Message {number} has the role {shown}: it must be {', '.join(_ROLES[:-1])} or {_ROLES[-1]}.")
    if unknown := set(said) - _MESSAGE_KEYS:
        raise UsageError(f'Message {number} has an unknown key "{min(unknown)}".')
    for key, value in (("reasoning_content", thought), ("tool_call_id", answered)):
        if value is not None and not isinstance(value, str):
            raise UsageError(f"Message {number}: {key} must be a text.")
    return Message(role, said["content"], thought or "", calls=tuple(_calls(number, said)), call=answered or "")


def _calls(number: int, said: Mapping[str, Any]) -> Iterator[ToolCall]:
    """The calls of a message in the form of OpenAI's API; the arguments may be an object, too."""
    for each in _list(said, "tool_calls") or ():
        function = each.get("function")
        name, arguments = (
            (function.get("name"), function.get("arguments", {})) if isinstance(function, dict) else (0, 0)
        )
        if not isinstance(name, str) or not isinstance(arguments, str | dict):
            raise UsageError(
                f'Message {number}: a tool call must be {{"id": "...", "function": {{"name": "...", ...}}}}.'
            )
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield ToolCall(str(each.get("id", "")), name, text)


def _tools(said: Iterable[Mapping[str, Any]]) -> Iterator[Tool]:
    """The functions among the tools, for templates that have no place for any."""
    for each in said:
        function = each.get("function", each)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
            yield Tool(function["name"], str(function.get("description") or ""), parameters)


def _list(said: Mapping[str, Any], key: str) -> list[Any] | None:
    value = said.get(key)
    if value is not None and not (isinstance(value, list) and all(isinstance(each, Mapping) for each in value)):
        raise UsageError(f"{key} must be a list of objects.")
    return value
