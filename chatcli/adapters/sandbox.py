"""Jinja as transformers 5 sets it up for chat templates, hardened against templates that fill the memory.

Only imported when a template is rendered: Jinja costs 60 ms. It knows no messages and no time limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import TemplateRuntimeError, nodes, utils
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LARGEST = 4_000_000


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


class Sandbox(ImmutableSandboxedEnvironment):
    """`*` and `**` cannot fill the memory: one call into C is not stopped by any time limit."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply, unless the product would be absurdly large."""
        if operator == "**" and any(isinstance(v, (int, float)) and abs(v) > 1_000 for v in (left, right)):
            raise TemplateRuntimeError("a power that large is not computed")
        for text, times in ((left, right), (right, left)):
            if isinstance(text, (str, list, tuple)) and isinstance(times, int) and len(text) * times > _LARGEST:
                raise TemplateRuntimeError("a text that long is not made")
        return super().call_binop(context, operator, left, right)


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
    made.globals.update(
        raise_exception=raise_exception, strftime_now=strftime_now, dict=Dictionary(), namespace=Namespace
    )
    return made
