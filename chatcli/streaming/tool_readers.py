"""What stands within the frame of a tool call, read: names and arguments out of JSON, tags or Python.

Nothing is run: Python is read as literals. Models are read with some patience (a list for one call, arguments as a
text that holds JSON), for what is not understood is shown to a person as it is. Knows no frame and no stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from chatcli.streaming.python_calls import Unfinished, read_calls

Arguments: TypeAlias = dict[str, Any]
Read: TypeAlias = list[tuple[str, Arguments]]
"""The calls that a text holds: names and arguments."""
Schemas: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The tools that are offered: the schema of the arguments by name."""

_NAMES = ("name", "tool_name", "function")
_ARGUMENTS = ("arguments", "parameters")
_NO_CALL = ("directly_answer", "directly-answer")
"""What Command R calls where it wants none called."""


def json_calls(text: str, schemas: Schemas) -> Read:
    """Objects with a name and arguments, or lists of them, one behind the other.

    Raises:
        Unfinished: the text ends within an object.
        ValueError: it is something else.
    """
    calls: Read = []
    for value in _values(text):
        calls += [_call(each) for each in (value if isinstance(value, list) else [value])]
    if not calls:
        raise Unfinished
    return [call for call in calls if call[0] not in _NO_CALL]


def offered_json_calls(text: str, schemas: Schemas) -> Read:
    """As `json_calls`, of tools that are offered only: without a frame any JSON might be an answer."""
    return _offered(json_calls(text, schemas), schemas)


def tagged_calls(text: str, schemas: Schemas) -> Read:
    """JSON, or a name with `<parameter=...>` as Qwen3-Coder has it, or with `<arg_key>` as GLM-4.5 has it."""
    text = text.strip()
    if text.startswith(("{", "[")):
        return json_calls(text, schemas)
    if text.startswith("<function="):
        name, _, said = text.removeprefix("<function=").partition(">")
        pairs = _pairs(said.removesuffix("</function>"), "<parameter=", ">", "</parameter>")
        pairs = [(key, value.removeprefix("\n").removesuffix("\n")) for key, value in pairs]
    else:
        name, mark, said = text.partition("<arg_key>")
        pairs = _pairs(mark + said, "<arg_key>", "</arg_key>", "</arg_value>")
        pairs = [(key, value.lstrip().removeprefix("<arg_value>")) for key, value in pairs]
    name = name.strip()
    if not re.fullmatch(r"[^<>\s{}]+", name) or (not pairs and name not in schemas):
        raise ValueError("no name")
    return [(name, _typed(pairs, schemas.get(name, {})))]


def mistral_calls(text: str, schemas: Schemas) -> Read:
    """A list of objects, or since v11 a name and its arguments, with an id and a token between them or not."""
    if text.lstrip().startswith(("[", "{")):
        return json_calls(text, schemas)
    found = re.fullmatch(r"\s*([^\s\[\]{}]+)(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(\{.*)", text, re.DOTALL)
    if not found:
        raise ValueError("no call") if "{" in text else Unfinished
    return [(found[1], _one(found[2]))]


def deepseek_calls(text: str, schemas: Schemas) -> Read:
    """A name and JSON; V3 and R1 write what kind of tool it is before the name, and a fence around the JSON."""
    first, mark, rest = text.partition("<｜tool▁sep｜>")
    if not mark:
        raise ValueError("no call")
    if rest.lstrip().startswith("{"):
        return [(first.strip(), _one(rest))]
    name, _, fenced = rest.partition("\n")
    return [(name.strip(), _one(_unfenced(fenced)))]


def named_calls(text: str, schemas: Schemas) -> Read:
    """A line with a tool's name, then JSON as GLM-4 writes it or `tool_call(name=value)` as ChatGLM3 does."""
    name, _, content = text.partition("\n")
    content = content.strip()
    if not content or content in ("```", "```python"):
        raise Unfinished
    if content.startswith("{"):
        return [(name.strip(), _one(content))]
    if not content.startswith("```"):
        raise ValueError("no call")
    return [(name.strip(), arguments) for _, arguments in read_calls(_unfenced(content))]


def harmony_calls(text: str, schemas: Schemas) -> Read:
    """The rest of `to=functions.`: a name, perhaps a channel and the kind of the content, and the arguments."""
    head, mark, content = text.partition("<|message|>")
    found = re.match(r"[^\s<>{}]+", head.removeprefix("to=functions."))
    if not mark or not found:
        raise ValueError("no call")
    return [(found[0], _one(content))]


def fenced_calls(text: str, schemas: Schemas) -> Read:
    """As `json_calls`, in what a Markdown fence encloses."""
    return json_calls(_unfenced(text), schemas)


def python_calls(text: str, schemas: Schemas) -> Read:
    """A list of calls in Python, of tools that are offered."""
    return _offered(read_calls(text.strip()), schemas)


def _offered(calls: Read, schemas: Schemas) -> Read:
    if any(name not in schemas for name, _ in calls):
        raise ValueError("a name that no tool has")
    return calls


def _values(text: str) -> Iterator[Any]:
    """Every JSON value of a text; commas and semicolons may stand between them."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)
    at = _next(text, 0)
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
                raise Unfinished from error
            raise
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        yield value
        at = _next(text, end)


def _next(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n,;"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _call(value: Any) -> tuple[str, Arguments]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = next((value[key] for key in _NAMES if key in value), None)
    if not isinstance(name, str) or not name.strip():
        raise ValueError("no name")
    return name.strip(), _arguments(next((value[key] for key in _ARGUMENTS if key in value), None))


def _arguments(said: Any) -> Arguments:
    if isinstance(said, str) and said.strip():
        (said,) = _values(said)
    if said in (None, ""):
        return {}
    if not isinstance(said, dict):
        raise ValueError("arguments that are no object")
    return said


def _one(text: str) -> Arguments:
    values = list(_values(text))
    if not values:
        raise Unfinished
    if len(values) > 1 or not isinstance(values[0], dict):
        raise ValueError("no object")
    return values[0]


def _pairs(text: str, begin: str, middle: str, end: str) -> list[tuple[str, str]]:
    """Names and values of tags in a row."""
    pairs = []
    text = text.strip()
    while text:
        if not text.startswith(begin):
            raise ValueError("text between the arguments")
        value, mark, rest = text.removeprefix(begin).partition(end)
        if not mark:
            raise Unfinished
        key, _, value = value.partition(middle)
        pairs.append((key.strip(), value))
        text = rest.strip()
    return pairs


def _typed(said: Sequence[tuple[str, str]], schema: Mapping[str, Any]) -> Arguments:
    """Arguments that are written without quotes, as the schema wants them; where it is silent, as JSON if they are."""
    properties = schema.get("properties")
    wanted = properties if isinstance(properties, Mapping) else {}
    return {key: _value(text, wanted.get(key)) for key, text in said}


def _value(text: str, schema: object) -> Any:
    if isinstance(schema, Mapping) and schema.get("type") == "string":
        return text
    try:
        (value,) = _values(text)
    except (ValueError, Unfinished):
        return text
    return value


def _unfenced(text: str) -> str:
    """What stands within a Markdown fence; a text without one stays as it is."""
    text = text.strip()
    if text.startswith("```"):
        _, newline, text = text.partition("\n")
        if not newline:
            raise Unfinished
    return text.removesuffix("```")
