"""What a reply of ChatGLM3 or GLM-4 asks for: text, or the call of a tool.

A reply is one or more parts; the first line of each names a tool, or is empty where the rest is text. ChatGLM3 was
trained to write the call as Python, which its own code ran. Nothing is run here: arguments are read as literals.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NEXT = "<|assistant|>"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a reply. `tool` is empty for text; `arguments` is None where the text is no call to be understood."""

    text: str
    tool: str = ""
    arguments: Mapping[str, Any] | None = None


def read_reply(text: str) -> tuple[Part, ...]:
    """The parts of a reply, as it was decoded with its special tokens."""
    return tuple(_part(part) for part in text.split(_NEXT))


def _part(text: str) -> Part:
    name, newline, content = text.partition("\n")
    if not newline:
        name, content = "", text
    if not name.strip():
        return Part(content.strip())
    return Part(content, name.strip(), _arguments(content))


def _arguments(content: str) -> Mapping[str, Any] | None:
    """The arguments of `tool_call(name=literal, ...)` between the first and the last line, or of a JSON object."""
    try:
        found = json.loads(content)
        return found if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        pass
    lines = content.strip().split("\n")[1:-1]
    try:
        call = ast.parse("\n".join(lines).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            return None
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
