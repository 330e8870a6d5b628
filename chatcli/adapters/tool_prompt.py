"""Tools, calls and results on their way into a prompt: as a checkpoint's template wants them, or as text.

What a template has a place for is found out by asking it. Where it has none, tools are told in the system message,
calls are part of an answer's text and results stand in a question. Knows no token ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
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
    or refuse an answer that has `several`.
    """

    tools: bool
    calls: bool
    results: bool
    text: bool = False
    none: bool = False
    several: bool = True


@lru_cache(maxsize=16)
def places(template: str) -> Places:
    """Found out with a tool, a call and a result that no template knows."""
    offers = "probe_tool" in _tried(template, [_ASKED])
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
    return [{"type": "function", "function": _function(tool)} for tool in tools] or None


def _function(tool: Tool) -> dict[str, Any]:
    try:
        parameters = json.loads(tool.parameters)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The parameters of the tool {tool.name} are no JSON: {error}.") from error
    if not isinstance(parameters, dict):
        raise UsageError(f"The parameters of the tool {tool.name} must be a JSON object, a schema.")
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def told_in_words(conversation: Conversation, template: str, form: ToolFormat, system: str) -> Conversation:
    """The conversation with what the template has no place for as text; calls are written where it is rendered.

    `system` stands before the description of the tools where the conversation has no system message of its own.
    """
    tools, place = offered(conversation), places(template)
    if tools and not place.tools:
        describe = _DESCRIPTIONS.get(form.describe, _in_words)
        about = describe([_function(tool) for tool in tools], form)
        head = conversation.system or ("" if form.describe in _DESCRIPTIONS else system)
        conversation = conversation.with_system(f"{head}\n\n{about}" if head else about)
    if not place.several:
        conversation = replace(conversation, messages=tuple(_one_by_one(conversation.messages)))
    if any(message.role == "tool" for message in conversation.messages) and not place.results:
        conversation = replace(conversation, messages=tuple(_with_results(conversation.messages)))
    return conversation


def _with_results(messages: Sequence[Message]) -> Iterator[Message]:
    """Results as a question, those that stand together as one, in the frame that Hermes and Qwen were trained with."""
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            yield Message("user", "\n".join(f"<tool_response>\n{each.text}\n</tool_response>" for each in group))
        else:
            yield from group


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Every call as an answer of its own, what came of it behind it."""
    results = {message.call: message for message in messages if message.role == "tool"}
    moved = {call.id for message in messages if len(message.calls) > 1 for call in message.calls}
    for message in messages:
        if len(message.calls) > 1:
            for number, call in enumerate(message.calls):
                yield replace(message if not number else Message("assistant", ""), calls=(call,))
                if call.id in results:
                    yield results[call.id]
        elif message.role != "tool" or message.call not in moved:
            yield message


def with_calls(
    entry: dict[str, Any], calls: Sequence[ToolCall], place: Places, form: ToolFormat | None, marked: Marked
) -> dict[str, Any]:
    """An assistant's message with its calls; in its content, as `form` has them, where they would be lost.

    `marked` is what is done to all that is said.
    """
    made = [replace(each, name=marked(each.name), arguments=_json(marked(_arguments(each)))) for each in calls]
    content = entry["content"]
    if form and isinstance(content, str) and (not place.calls or (place.none and content)):
        content = f"{content}\n{form.written(made)}" if content else form.written(made)
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
    entry: dict[str, Any], answered: str, messages: Sequence[Message], form: ToolFormat | None, marked: Marked
) -> dict[str, Any]:
    """What a tool said, with its name and the id of the call that is `answered`."""
    names = {call.id: call.name for message in messages for call in message.calls}
    return {**entry, "name": marked(names.get(answered, "")), "tool_call_id": _fitted(answered, form)}


def _fitted(call: str, form: ToolFormat | None) -> str:
    """A call's id as the family wants it: Mistral's templates refuse those of another length."""
    if not form or not form.ids or re.fullmatch(f"[A-Za-z0-9]{{{form.ids}}}", call):
        return re.sub("[^A-Za-z0-9_.:-]", "_", call)
    return hashlib.sha256(call.encode("utf-8", "replace")).hexdigest()[: form.ids]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _in_words(functions: Sequence[dict[str, Any]], form: ToolFormat) -> str:
    """As Qwen's templates write it, in the words of Hermes; for another format an example of it takes their place."""
    listed = "".join("\n" + _json({"type": "function", "function": each}) for each in functions)
    if form.describe == "hermes":
        example = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        ask = (
            f"return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n{example}"
        )
    else:
        ask = "write:\n" + form.written([ToolCall("", "function-name", '{"argument-name": "value"}')])
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
        f"function signatures within <tools></tools> XML tags:\n<tools>{listed}\n</tools>\n\n"
        f"For each function call, {ask}"
    )


def _chatglm3(functions: Sequence[dict[str, Any]], form: ToolFormat) -> str:
    """As ChatGLM3's own code writes it."""
    listed = json.dumps(list(functions), indent=4, ensure_ascii=False)
    return f"Answer the following questions as best as you can. You have access to the following tools:\n{listed}"


def _glm4(functions: Sequence[dict[str, Any]], form: ToolFormat) -> str:
    """As GLM-4's own code writes it."""
    described = "".join(
        f"\n## {each['name']}\n\n{json.dumps(each, indent=4, ensure_ascii=False)}\n"
        "在调用上述函数时，请使用 Json 格式表示调用的参数。"
        for each in functions
    )
    return (
        "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和"
        f"要求提供适当的答复和支持。\n\n# 可用工具{described}"
    )


_DESCRIPTIONS: dict[str, Callable[[Sequence[dict[str, Any]], ToolFormat], str]] = {
    "chatglm3": _chatglm3,
    "glm-4": _glm4,
}
