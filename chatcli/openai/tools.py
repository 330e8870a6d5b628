"""The tools of a request, and which of them is to be called."""

from __future__ import annotations

import json
import re

from chatcli.conversation import Tool
from chatcli.openai.fields import Fields

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES = ("auto", "none", "required")


def tools_of(fields: Fields) -> tuple[Tool, ...]:
    """The functions that the model may ask for.

    Raises:
        ApiError: one is none, or has a name that it cannot have.
    """
    tools = []
    for each in fields.objects("tools"):
        each.word("type", "function")
        each.required("function")
        function = each.inner("function") or each
        function.required("name")
        name = function.text("name") or ""
        if not _NAME.fullmatch(name) or name in _CHOICES:
            raise function.wrong("name", "must be up to 64 of the letters a-z, A-Z, 0-9, _ and -, and no tool_choice")
        parameters = function.inner("parameters")
        schema = function.get("parameters") if parameters else {}
        tools.append(Tool(name, function.text("description") or "", json.dumps(schema, ensure_ascii=False)))
    return tuple(tools)


def choice_of(fields: Fields, tools: tuple[Tool, ...]) -> str:
    """The choice as `Conversation.tool_choice` has it.

    Raises:
        ApiError: it names none of the `tools`.
    """
    if "tool_choice" not in fields:
        return "auto"
    if not tools and fields.get("tool_choice") != "none":
        raise fields.wrong("tool_choice", "may be given only where there are tools")
    if isinstance(fields.get("tool_choice"), str):
        return fields.word("tool_choice", *_CHOICES) or "auto"
    chosen = fields.inner("tool_choice") or fields
    chosen.required("function")
    function = chosen.inner("function") or chosen
    function.required("name")
    name = function.text("name") or ""
    if name not in (tool.name for tool in tools):
        raise function.wrong("name", "must be the name of one of the tools")
    return name
