"""How each family writes the calls of tools: a table, and what is made of a call with it.

The one table is for both ways: how a call of an earlier turn is written, and how one is found in a reply. Knows
texts only; which row of the adapter table names which format is the row's.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from chatcli.conversation import ToolCall
from chatcli.streaming import tool_readers as read

Style = Literal["json", "parameter", "arg_key", "python"]
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls.

    `call` is one of them, with {name} and {arguments}, these in one of four styles; `joint` stands between two,
    `around` encloses all. In a reply a call begins with one of `opens`, anywhere, or with one of `begins`, which are
    part of what is read, as the first words only; with {name} they stand for one of every tool. `closes` end it, where
    `read` finds it whole; those of one letter are part of it. `inner` may stand within. Behind `anew` the reply begins
    once more. `shed` is never shown. A template that writes all of `marks` is of this format.

    `describe` names the way that the tools are told in a system message; `ids` is the length of a call's id where the
    family is strict about it; `several` says whether one answer may ask for more than one.
    """

    call: str
    joint: str = "\n"
    around: tuple[str, str] = ("", "")
    style: Style = "json"
    opens: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    closes: tuple[str, ...] = ("}",)
    read: Callable[[str, read.Schemas], read.Read] = read.json_calls
    inner: tuple[str, ...] = ()
    anew: str = ""
    shed: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    describe: str = ""
    ids: int = 0
    several: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """All that it is written with, to look for special tokens in."""
        return (self.call, *self.around, *self.opens, *self.begins, *self.closes, self.anew, *self.shed, *self.inner)

    def written(self, calls: Sequence[ToolCall]) -> str:
        """Calls as the model itself would write them."""
        return self.around[0] + self.joint.join(map(self._one, calls)) + self.around[1]

    def _one(self, call: ToolCall) -> str:
        name = _json(call.name)[1:-1] if '"{name}"' in self.call else call.name
        before, _, rest = self.call.partition("{name}")
        return before + name + rest.replace("{arguments}", _written(self.style, call))

    def new_id(self) -> str:
        """An id for a call, as the family or OpenAI's API writes them."""
        return ("" if self.ids else "call_") + "".join(secrets.choice(_LETTERS) for _ in range(self.ids or 24))


def _written(style: Style, call: ToolCall) -> str:
    arguments: Mapping[str, Any] = json.loads(call.arguments)
    if style == "json":
        return _json(arguments)
    bare = {key: value if isinstance(value, str) else _json(value) for key, value in arguments.items()}
    if style == "parameter":
        return "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in bare.items())
    if style == "arg_key":
        pairs = (f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in bare.items())
        return "".join(pairs)
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_OBJECT = '{"name": "{name}", "arguments": {arguments}}'

HERMES = ToolFormat(
    call=f"<tool_call>\n{_OBJECT}\n</tool_call>",
    opens=("<tool_call>",),
    closes=("</tool_call>",),
    read=read.tagged_calls,
    marks=("<tool_call>",),
    describe="hermes",
)
_MISTRAL = ToolFormat(
    call=_OBJECT,
    joint=", ",
    around=("[TOOL_CALLS][", "]"),
    opens=("[TOOL_CALLS]",),
    closes=("}", "]"),
    read=read.mistral_calls,
    inner=("[ARGS]", "[CALL_ID]"),
    marks=("[TOOL_CALLS]",),
    ids=9,
)
_DEEPSEEK = ToolFormat(
    call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>",
    around=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    opens=("<｜tool▁call▁begin｜>",),
    closes=("<｜tool▁call▁end｜>",),
    read=read.deepseek_calls,
    shed=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    marks=("<｜tool▁calls▁begin｜>", "```json"),
)
_LISTED = ToolFormat(
    call=_OBJECT,
    joint=", ",
    around=("<|tool_call|>[", "]"),
    opens=("<|tool_call|>",),
    closes=("}", "]"),
    shed=("<|/tool_call|>",),
    marks=("<|tool_call|>",),
)
_GLM = ToolFormat(
    call="{name}\n{arguments}",
    joint="<|assistant|>",
    begins=("{name}\n",),
    closes=("}", "```"),
    read=read.named_calls,
    anew="<|assistant|>",
    describe="glm-4",
)
_COMMAND = ToolFormat(
    call='{"tool_name": "{name}", "parameters": {arguments}}',
    joint=",\n    ",
    around=("Action: ```json\n[\n    ", "\n]```"),
    opens=("Action: ```json", "Action:```json"),
    closes=("```",),
    read=read.fenced_calls,
    marks=("Action:", "tool_name"),
)

FORMATS: Mapping[str, ToolFormat] = {
    "glm-4.5": replace(
        HERMES, call="<tool_call>{name}\n{arguments}</tool_call>", style="arg_key", marks=("<arg_key>",), describe=""
    ),
    "qwen3-coder": replace(
        HERMES,
        call="<tool_call>\n<function={name}>\n{arguments}</function>\n</tool_call>",
        style="parameter",
        marks=("<tool_call>", "<function="),
        describe="",
    ),
    "hermes": HERMES,
    "mistral-v11": replace(
        _MISTRAL,
        call="[TOOL_CALLS]{name}[ARGS]{arguments}",
        joint="",
        around=("", ""),
        marks=("[TOOL_CALLS]", "[ARGS]"),
    ),
    "mistral": _MISTRAL,
    "deepseek": _DEEPSEEK,
    "deepseek-v3.1": replace(
        _DEEPSEEK,
        call="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>",
        joint="",
        marks=("<｜tool▁calls▁begin｜>",),
    ),
    "llama-3": ToolFormat(
        call='{"name": "{name}", "parameters": {arguments}}',
        joint="; ",
        opens=("<|python_tag|>",),
        begins=("{",),
        read=read.offered_json_calls,
        marks=("<|python_tag|>",),
    ),
    "llama-4": ToolFormat(
        call="{name}({arguments})",
        joint=", ",
        around=("[", "]"),
        style="python",
        opens=("<|python_start|>",),
        begins=("[{name}(",),
        closes=("]",),
        read=read.python_calls,
        shed=("<|python_end|>",),
        marks=("<|python_start|>",),
    ),
    "gpt-oss": ToolFormat(
        call="<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}",
        opens=("<|channel|>commentary to=functions.", "<|channel|>analysis to=functions."),
        begins=("to=functions.",),
        read=read.harmony_calls,
        shed=("<|channel|>commentary<|message|>", "<|end|><|start|>assistant", "<|constrain|>"),
        marks=("to=functions.",),
        several=False,
    ),
    "internlm2": ToolFormat(
        call='<|action_start|><|plugin|>\n{"name": "{name}", "parameters": {arguments}}<|action_end|>',
        joint="",
        opens=("<|action_start|><|plugin|>",),
        closes=("<|action_end|>",),
        marks=("<|action_start|>",),
    ),
    "command-a": replace(
        _COMMAND,
        around=("<|START_ACTION|>[\n    ", "\n]<|END_ACTION|>"),
        opens=("<|START_ACTION|>",),
        closes=("<|END_ACTION|>",),
        marks=("<|START_ACTION|>",),
    ),
    "command-r": _COMMAND,
    "granite": _LISTED,
    "phi-4-mini": replace(_LISTED, around=("<|tool_call|>[", "]<|/tool_call|>"), marks=("<|/tool_call|>",)),
    "chatglm3": replace(
        _GLM, call="{name}\n```python\ntool_call({arguments})\n```", style="python", describe="chatglm3"
    ),
    "glm-4": _GLM,
}
"""What a row of the table may name as its `tools`; where the marks of several fit a template, the first is meant."""


def format_of(template: str) -> ToolFormat | None:
    """The format that a template shows by its marks, if it does."""
    return next((f for f in FORMATS.values() if f.marks and all(mark in template for mark in f.marks)), None)
