"""Finds the calls of tools in an answer, wherever it is cut into pieces.

What begins like a call and proves to be none stays text: nothing is lost. Knows a format and the tools that are
offered, no model and no token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from chatcli.conversation import Tool, ToolCall
from chatcli.generation import Text, ToolCalled
from chatcli.streaming.cleanup import Replaced
from chatcli.streaming.python_calls import Unfinished
from chatcli.streaming.tool_formats import ToolFormat

_SURROGATES = re.compile("[\ud800-\udfff]")


def schema_of(tool: Tool) -> Mapping[str, Any]:
    """The schema of a tool's arguments, an empty one where it is no object."""
    try:
        schema = json.loads(tool.parameters)
    except ValueError:
        return {}
    return schema if isinstance(schema, dict) else {}


class ToolSplitter:
    """Splits an answer into `Text` and `ToolCalled`, in the format of a family.

    A call is given out when it is whole. White space before and behind calls is dropped. `unshown` are special tokens
    that are kept in the text to find calls by, and that are taken out of what stays text.
    """

    def __init__(self, form: ToolFormat, tools: Sequence[Tool], unshown: Sequence[str] = ()) -> None:
        self._form = form
        self._schemas = {tool.name: schema_of(tool) for tool in tools}
        self._opens = [*self._each(form.opens), *([form.anew] if form.anew else [])]
        self._begins = self._each(form.begins)
        self._shed = [Replaced(text, "") for text in form.shed]
        self._hidden = [Replaced(text, "") for text in unshown]
        self._held = ""
        self._mark: str | None = None  # what the call began with; None within text
        self._lead = ""  # white space before the call, which is text where it is none
        self._tried = 0  # how far the call was searched for its end
        self._first = True  # whether a call may begin without a mark: nothing was said since the beginning or a call
        self._called = False

    def push(self, text: str) -> list[Text | ToolCalled]:
        """The events that are certain now."""
        self._held += _through(self._shed, text)
        return self._steps(last=False)

    def flush(self) -> list[Text | ToolCalled]:
        """What was held back, at the end of the answer; a call may lack its closing mark there."""
        self._held += _through(self._shed, "", last=True)
        return self._steps(last=True)

    def _each(self, patterns: Sequence[str]) -> list[str]:
        """The patterns, those with a name in them for every tool."""
        return list(dict.fromkeys(text.replace("{name}", name) for text in patterns for name in self._schemas))

    def _steps(self, *, last: bool) -> list[Text | ToolCalled]:
        events: list[Text | ToolCalled] = []
        going = True
        while going:
            going, made = self._text(last=last) if self._mark is None else self._call(last=last)
            events += made
        if last:
            rest = "" if self._called and not self._held.strip() else self._held
            self._held = ""
            events += self._shown(rest, last=True)
        return events

    def _text(self, *, last: bool) -> tuple[bool, list[Text | ToolCalled]]:
        """A step outside calls: whether there is more to do, and what is certain."""
        held = self._held
        start = held.lstrip() if self._first else ""
        if self._called and self._begins:
            start = start.removeprefix(self._form.joint.strip()).lstrip()
        if self._first and (begun := next((b for b in self._begins if start.startswith(b)), None)) is not None:
            self._enter("", held[: len(held) - len(start)], start)
            return bool(begun), []
        if self._first and not last and any(begin.startswith(start) for begin in self._begins):
            return False, []
        at, mark = min(((at, m) for m in self._opens if (at := held.find(m)) >= 0), default=(len(held), ""))
        if not mark and not last:
            at -= _unsure(held, self._opens)
        said = held[:at].rstrip()
        self._first = self._first and not said
        if mark == self._form.anew and mark:
            self._held, self._first = held[at + len(mark) :], True
            return True, self._shown(held[:at])
        if mark:
            self._enter(mark, held[len(said) : at], held[at + len(mark) :])
            return True, self._shown(said)
        self._held = held[len(said) :]
        return False, self._shown(said)

    def _enter(self, mark: str, lead: str, held: str) -> None:
        self._mark, self._lead, self._held, self._tried = mark, lead, held, 0

    def _call(self, *, last: bool) -> tuple[bool, list[Text | ToolCalled]]:
        """A step within a call: the same."""
        ends = ((at + len(c), c) for c in self._form.closes if (at := self._held.find(c, self._tried)) >= 0)
        end, close = min(ends, default=(len(self._held), ""))
        if not close and not last:
            self._tried = max(self._tried, len(self._held) - max(map(len, self._form.closes)) + 1)
            return False, []
        try:
            calls = self._read(self._held[: end - len(close)] if len(close) > 1 else self._held[:end])
        except Unfinished:
            self._tried = end
            return (True, []) if close else self._no_call()
        except ValueError:
            return self._no_call()
        self._mark, self._held, self._first, self._called = None, self._held[end:], True, True
        return True, [*self._shown("", last=True), *calls]

    def _read(self, text: str) -> list[Text | ToolCalled]:
        return [
            ToolCalled(
                ToolCall(
                    self._form.new_id(),
                    _SURROGATES.sub("\ufffd", name),
                    _SURROGATES.sub("\ufffd", json.dumps(arguments, ensure_ascii=False, allow_nan=False)),
                )
            )
            for name, arguments in self._form.read(text, self._schemas)
        ]

    def _no_call(self) -> tuple[bool, list[Text | ToolCalled]]:
        """What began like a call is text; calls may stand in it."""
        text = self._lead + (self._mark or "")
        self._first, self._mark = False, None
        return True, self._shown(text)

    def _shown(self, text: str, *, last: bool = False) -> list[Text | ToolCalled]:
        text = _through(self._hidden, text, last=last)
        return [Text(text)] if text else []


def _through(steps: Sequence[Replaced], text: str, *, last: bool = False) -> str:
    for step in steps:
        text = step.push(text) + (step.flush() if last else "")
    return text


def _unsure(text: str, marks: Sequence[str]) -> int:
    """How many of the last letters are the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(mark.startswith(text[-size:]) for mark in marks)), 0)
