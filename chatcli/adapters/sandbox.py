"""Jinja as transformers 5 sets it up for chat templates, hardened against templates that fill the memory.

Only imported when a template is rendered: Jinja costs 60 ms. It knows no messages and no time limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sized
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import TemplateRuntimeError, nodes, utils
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LARGEST = 4_000_000
"""The largest product, and the largest number that a text may be padded, indented or cut by."""
_LONGEST = 100_000_000
"""The longest text or list that may be put together: far above any message, far below what fills a memory."""
_WIDE = re.compile(r"%[-+ #0]*(\*|\d{7})|\{[^{}]*:[^{}]*(\{|\d{7})")
"""A field of a format, for `%` or `str.format`, that is very wide or has an argument for its width."""


class Refusal(TemplateError):
    """What a template raises through `raise_exception`."""


class Generation(Extension):
    """`{% generation %}` marks the model's own words for training; for a prompt it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Keep the body, drop the tags."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Code(CodeGenerator):
    """Writes `~` as a call of `Sandbox.joined`."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """One join of all that is joined."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """Multiplies, pads and joins nothing that would fill the memory: one call into C is not stopped by a time limit."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = _Code

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute, unless the outcome would be absurdly large."""
        if operator == "**" and any(isinstance(v, (int, float)) and abs(v) > 1_000 for v in (left, right)):
            raise TemplateRuntimeError("a power that large is not computed")
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, (str, list, tuple)) and isinstance(times, int):
                    _check_length(len(text) * times, _LARGEST)
        if operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _check_length(len(left) + len(right))
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call, unless a text's own method would make an absurdly long one of it."""
        text, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(text, str):
            _check_method(text, name, args)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """As Jinja, which replaces the formatting methods of `str` by its own, unless a field would be very wide."""
        wrapped = super().wrap_str_format(value)
        if wrapped:
            _check_format(value.__self__)
        return wrapped

    def joined(self, parts: Iterable[object]) -> str:
        """What `~` makes of its operands."""
        texts = [str(part) for part in parts]
        _check_length(sum(map(len, texts)))
        return "".join(texts)


def _check_length(length: int, longest: int = _LONGEST) -> None:
    if length > longest:
        raise TemplateRuntimeError("a text that long is not made")


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise TemplateRuntimeError("a field that wide is not made")


def _check_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    """Refuse what a method of `str` would take too much memory for."""
    if name == "join" and args and isinstance(args[0], Sized):
        _check_length(len(text) * len(args[0]))
    elif name == "replace" and len(args) > 1 and all(isinstance(each, str) for each in args[:2]):
        found = text.count(args[0])
        times = min(found, args[2]) if len(args) > 2 and args[2] >= 0 else found
        _check_length(len(text) + times * len(args[1]))
    else:
        _check_numbers(args)


def _check_numbers(args: Iterable[object]) -> None:
    _check_length(max((each for each in args if isinstance(each, int)), default=0), _LARGEST)


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that fills no memory."""

    @wraps(filter_)  # with the mark by which Jinja knows what to pass first
    def bounded(first: Any, /, *args: Any, **kwargs: Any) -> Any:
        if name == "join":
            args = (list(args[0]), *args[1:])
            _check_method(str(args[1]) if len(args) > 1 else str(kwargs.get("d", "")), name, args[:1])
        elif name == "replace":
            _check_method(str(args[0]), name, (str(args[1]), str(args[2]), *args[3:]))
        elif name == "format":
            _check_format(str(first))
        else:
            _check_numbers((*args, *kwargs.values()))
        return filter_(first, *args, **kwargs)

    return bounded


class Namespace(utils.Namespace):
    """Refuses underscore names, the way into CPython's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no `self` in the signature: a template may use that name
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_public(name)
        utils.Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


class Dictionary:
    """`dict` without the type behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """As `dict`."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


def raise_exception(message: object) -> None:
    """The template's own way to say no."""
    raise Refusal(str(message))


def tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models have seen it: Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form: str) -> str:
    """The local time, for templates that tell the model the date."""
    return datetime.now().strftime(form)


def environment() -> Sandbox:
    """The environment that chat templates are written for."""
    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    bounded = ("batch", "center", "format", "indent", "join", "replace", "slice", "tojson")
    made.filters |= {name: _bounded(name, made.filters[name]) for name in bounded}
    made.globals.update(
        raise_exception=raise_exception, strftime_now=strftime_now, dict=Dictionary(), namespace=Namespace
    )
    return made
