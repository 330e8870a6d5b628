"""Tools, calls and results as a checkpoint's template wants them.

What a template has a place for is found out by asking it; what becomes of the rest, `tool_words` knows. Knows no token
ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from chatcli.adapters.template import TemplateRefusal, render
from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.errors import BrokenCheckpoint, UsageError
from chatcli.streaming.tool_formats import FORMATS, HERMES, ToolFormat, format_of

Marked: TypeAlias = Callable[[Any], Any]

_PROBE = ToolCall("call00000", "probe_tool", '{"probe_key": "probe_value"}')
_TOOL = Tool(
    "probe_tool",
    "?",
    '{"type": "object", "properties": {"probe_key": {"type": "string", "description": "?"}}, "required": []}',
)
_ASKED = {"role": "user", "content": "?"}
_RESULT = {"role": "tool", "content": "(probed)", "name": _PROBE.name, "tool_call_id": _PROBE.id}


@dataclass(frozen=True, slots=True)
class Places:
    """What a template has a place for.

    Of a call it wants the arguments as `text` or as an object, and some write calls only where the content is `none`,
    or refuse an answer that has `several`. GLM-4's knows a call as `metadata`, and what came of it as an observation.
    """

    tools: bool
    calls: bool
    results: bool
    text: bool = False
    none: bool = False
    several: bool = True
    metadata: bool = False


@lru_cache(maxsize=16)
def places(template: str) -> Places:
    """Found out with a tool, a call and a result that no template knows."""
    offers = _PROBE.name in _tried(template, [_ASKED])
    for none in (False, True):
        for text in (False, True):
            shape = Places(offers, True, False, text, none)
            called = with_calls({"role": "assistant", "content": ""}, [_PROBE], shape, None, lambda said: said)
            made = _tried(template, [_ASKED, called])
            # A dictionary as Python prints it, or JSON within JSON, is the other kind of arguments.
            if "probe_value" in made and "{'probe_key'" not in made and '\\"probe_key' not in made:
                twice = with_calls(
                    {"role": "assistant", "content": ""}, [_PROBE, _PROBE], shape, None, lambda said: said
                )
                several, results = (_tried(template, [_ASKED, said, _RESULT]) for said in (twice, called))
                return replace(shape, results="(probed)" in results, several="(probed)" in several)
    if _PROBE.name in _tried(template, [_ASKED, {"role": "assistant", "content": "?", "metadata": _PROBE.name}]):
        return Places(offers, False, True, several=False, metadata=True)
    answered = [_ASKED, {"role": "assistant", "content": "?"}, _RESULT]
    # A template that writes the header of any role knows nothing of tools for that.
    knows = offers or "'tool'" in template or '"tool"' in template
    return Places(offers, False, knows and "(probed)" in _tried(template, answered))


def _tried(template: str, messages: list[dict[str, Any]]) -> str:
    try:
        return render(template, messages, tools=as_objects([_TOOL]))
    except (TemplateRefusal, BrokenCheckpoint):
        return ""


def tool_format(template: str, named: str) -> ToolFormat:
    """The format of the calls that are written behind a `template`: the one it shows, else the one `named` by a row."""
    return format_of(template) or FORMATS.get(named, HERMES)


def offered(conversation: Conversation) -> tuple[Tool, ...]:
    """The tools that the model may ask for now.

    Raises:
        UsageError: one that must be asked for is not there.
    """
    choice, names = conversation.tool_choice, [tool.name for tool in conversation.tools]
    if choice == "none":
        return ()
    if choice != "auto" and not names:
        raise UsageError(f'tool_choice is "{choice}", but the conversation has no tools.')
    if choice not in ("auto", "required", *names):
        raise UsageError(f'tool_choice: there is no tool "{choice}", only {", ".join(names)}.')
    return conversation.tools


def as_objects(tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    """Tools as templates are given them, in the form of OpenAI's API; None where there are none.

    Raises:
        UsageError: the parameters of one are no JSON object.
    """
    return [{"type": "function", "function": as_function(tool)} for tool in tools] or None


def as_function(tool: Tool) -> dict[str, Any]:
    """A tool as the object that describes it.

    Raises:
        UsageError: its parameters are no JSON object.
    """
    try:
        parameters = json.loads(tool.parameters)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The parameters of the tool {tool.name} are no JSON: {error}.") from error
    if not isinstance(parameters, dict):
        raise UsageError(f"The parameters of the tool {tool.name} must be a JSON object, a schema.")
    # Templates look into the properties; OpenAI's API lets them be left out.
    parameters = parameters or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def with_calls(
    entry: dict[str, Any], calls: Sequence[ToolCall], place: Places, form: ToolFormat | None, marked: Marked
) -> dict[str, Any]:
    """An assistant's message with its calls; in its content, as `form` has them, where they would be lost.

    `marked` is what is done to all that is said.
    """
    made = [replace(each, name=marked(each.name), arguments=_json(marked(_arguments(each)))) for each in calls]
    content = entry["content"]
    if form and (not place.calls or (place.none and content)):
        text, between = form.written(made), form.anew or "\n"
        if place.metadata and not content:
            entry["metadata"], _, content = text.partition("\n")
        elif isinstance(content, str):
            content = f"{content}{between}{text}" if content else text
        else:
            content = [*(part for part in content if part.get("text") != ""), {"type": "text", "text": text}]
    elif place.none and not content:
        content = None
    return {**entry, "content": content, "tool_calls": [_as_object(each, place, form) for each in made]}


def _as_object(call: ToolCall, place: Places, form: ToolFormat | None) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments if place.text else json.loads(call.arguments)}
    return {"id": _fitted(call.id, form), "type": "function", "function": function}


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The arguments of a call of {call.name} are no JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise UsageError(f"The arguments of a call of {call.name} must be a JSON object.")
    return arguments


def with_call_answered(
    entry: dict[str, Any],
    answered: str,
    messages: Sequence[Message],
    place: Places,
    form: ToolFormat | None,
    marked: Marked,
) -> dict[str, Any]:
    """What a tool said, with its name and the id of the call that is `answered`."""
    names = {call.id: call.name for message in messages for call in message.calls}
    role = "observation" if place.metadata else entry["role"]
    return {**entry, "role": role, "name": marked(names.get(answered, "")), "tool_call_id": _fitted(answered, form)}


def _fitted(call: str, form: ToolFormat | None) -> str:
    """A call's id as the family wants it: Mistral's templates refuse those of another length."""
    if not form or not form.ids or re.fullmatch(f"[A-Za-z0-9]{{{form.ids}}}", call):
        return re.sub("[^A-Za-z0-9_.:-]", "_", call)
    return hashlib.sha256(call.encode("utf-8", "replace")).hexdigest()[: form.ids]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
