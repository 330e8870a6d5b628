"""Tools in words, for templates that have no place for them: in the system message, in answers and in questions.

Knows conversations and formats of calls; what a template has a place for, it is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from typing import Any, TypeAlias

from chatcli.adapters.tool_prompt import as_function, offered, places
from chatcli.conversation import Conversation, Message, ToolCall
from chatcli.streaming.tool_formats import ToolFormat

Functions: TypeAlias = Sequence[Mapping[str, Any]]


def told_in_words(conversation: Conversation, template: str, form: ToolFormat, system: str) -> Conversation:
    """The conversation with what the template has no place for as text; calls are written where it is rendered.

    `system` stands before the description of the tools where the conversation has no system message of its own.
    """
    tools, place = offered(conversation), places(template)
    if tools and not place.tools:
        describe = _DESCRIPTIONS.get(form.describe, _in_words)
        about = describe([as_function(tool) for tool in tools], form)
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
    """Every call as an answer of its own, what came of it behind it; ids may be the same in another answer."""
    for index, message in enumerate(messages):
        if message.role == "tool" and index:
            continue  # it came with what it stands behind
        results = list(takewhile(lambda each: each.role == "tool", messages[index + 1 :]))
        for number, call in enumerate(message.calls if len(message.calls) > 1 else ()):
            yield replace(message if not number else Message("assistant", ""), calls=(call,))
            if result := next((each for each in results if each.call == call.id), None):
                yield result
                results.remove(result)
        if len(message.calls) < 2:
            yield message
        yield from results


def _in_words(functions: Functions, form: ToolFormat) -> str:
    """As Qwen's templates write it, in the words of Hermes; for another format an example of it takes their place."""
    listed = "".join(
        "\n" + json.dumps({"type": "function", "function": each}, ensure_ascii=False) for each in functions
    )
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


def _chatglm3(functions: Functions, form: ToolFormat) -> str:
    """As ChatGLM3's own code writes it."""
    listed = json.dumps(list(functions), indent=4, ensure_ascii=False)
    return f"Answer the following questions as best as you can. You have access to the following tools:\n{listed}"


def _glm4(functions: Functions, form: ToolFormat) -> str:
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


_DESCRIPTIONS: dict[str, Callable[[Functions, ToolFormat], str]] = {
    "chatglm3": _chatglm3,
    "glm-4": _glm4,
}
