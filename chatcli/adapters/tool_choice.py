"""A tool that must be called, as a grammar: what the family writes around calls, and the schema of the arguments.

Lark as llguidance reads it, where <[7]> is the token 7. Knows no model and follows no grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatcli.constraints import checked
from chatcli.conversation import Tool
from chatcli.generation import Constraint
from chatcli.streaming.tool_calls import schema_of
from chatcli.streaming.tool_formats import ToolFormat

_COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def calls(
    form: ToolFormat, tools: Sequence[Tool], special: Mapping[str, int], *, one: bool, schema: str = ""
) -> Constraint:
    """The constraint under which an answer is a call of one of `tools`, or several unless only `one` is wanted.

    `special` are the tokens that no text spells, with their ids. With a `schema` it may be JSON that conforms to that
    instead.

    Raises:
        UsageError: the parameters of a tool cannot be followed; names the keyword.
    """
    grammar = _Grammar(special)
    whole = [grammar.call(form, tool) for tool in tools]
    further = "" if one or not form.several else f"({grammar.literal(form.joint)} call)*"
    start = f"start: {grammar.literal(form.around[0])} call {further} {grammar.literal(form.around[1])}"
    if schema:
        start += f" | {grammar.json(json.loads(schema))}"
    rules = [start, f"call: {' | '.join(whole)}"]
    return Constraint("lark", "\n".join([*rules, *grammar.rules, ""]))


def _closed(tool: Tool) -> dict[str, Any]:
    """The schema of the arguments, which are an object with no more than what the schema lists, where it lists it."""
    said = schema_of(tool)
    closing = {} if said.keys() & {"anyOf", "oneOf", "allOf", "$ref"} else {"additionalProperties": False}
    schema = {"type": "object", "properties": {}, **closing, **said}
    checked(Constraint("schema", json.dumps(schema)), f"The schema of the tool {tool.name}")
    return schema


class _Grammar:
    """Rules as they come to be needed."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = special
        texts = sorted(special, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, texts))})") if texts else None
        self.rules: list[str] = []

    def literal(self, text: str) -> str:
        """A text to the letter, its special tokens by their ids."""
        parts = self._pattern.split(text) if self._pattern else [text]
        return " ".join(
            f"<[{self._special[part]}]>" if part in self._special else json.dumps(part) for part in parts if part
        )

    def call(self, form: ToolFormat, tool: Tool) -> str:
        """One call as the family writes it."""
        name = json.dumps(tool.name)[1:-1] if '"{name}"' in form.call else tool.name
        before, _, after = form.call.replace("{name}", name, 1).partition("{arguments}")
        schema = _closed(tool)
        if form.style == "json":
            arguments = self.json(schema)
        elif form.style == "python":
            arguments = self._python(schema)
        else:
            frame = _FRAMES[form.style]
            arguments = " ".join(self._pair(frame, *each) for each in _properties(schema))
        return " ".join(part for part in (self.literal(before), arguments, self.literal(after)) if part)

    def json(self, schema: Mapping[str, Any]) -> str:
        """A rule for JSON that conforms."""
        return self._rule(f"%json {json.dumps({**_COMPACT, **schema}, ensure_ascii=False)}")

    def _rule(self, text: str) -> str:
        name = f"rule_{len(self.rules)}"
        self.rules.append(f"{name}: {text}")
        return name

    def _pair(self, frame: tuple[str, str, str], key: str, schema: Mapping[str, Any], required: bool) -> str:
        """A name and a value without quotes."""
        before, between, after = frame
        if isinstance(schema.get("enum"), list) and all(isinstance(each, str) for each in schema["enum"]):
            value = f"({' | '.join(map(json.dumps, schema['enum']))}) {json.dumps(after)}"
        elif schema.get("type") == "string":  # one lexeme with what ends it, which might begin in the text
            size = f"{{{max(schema.get('minLength', 1), 1)},{schema.get('maxLength', '')}}}"
            value = f"/[^<\\x00-\\x08\\x0b-\\x1f]{size}{_as_pattern(after)}/"
        else:
            value = f"{self.json(schema)} {json.dumps(after)}"
        pair = f"{json.dumps(before + key + between)} {value}"
        return pair if required else f"({pair})?"

    def _python(self, schema: Mapping[str, Any]) -> str:
        """`name=value` with commas: what is required, then any of the others in their order."""
        named = [(f"{json.dumps(key + '=')} {self.json(about)}", must) for key, about, must in _properties(schema)]
        first = [text for text, must in named if must]
        others = [text for text, must in named if not must]
        further = [f'(", " {text})?' for text in others]
        if first:
            return " ".join([' ", " '.join(first), *further])
        ways = [" ".join([text, *further[n + 1 :]]) for n, text in enumerate(others)]
        return f"({' | '.join(ways)})?" if ways else ""


def _as_pattern(text: str) -> str:
    return re.escape(text).replace("\\\n", "\\n").replace("/", "\\/")


_FRAMES = {
    "parameter": ("<parameter=", ">\n", "\n</parameter>\n"),
    "arg_key": ("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
}


def _properties(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every property with its schema, which may refer to definitions of the whole, and whether it is required."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    for key, about in schema["properties"].items():
        yield key, {**shared, **(about if isinstance(about, Mapping) else {})}, key in schema.get("required", ())
