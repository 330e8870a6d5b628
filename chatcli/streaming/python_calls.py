"""Calls of functions that a model wrote in Python, read as literals: nothing is run.

Knows no frame and no tool.
"""

from __future__ import annotations

import ast
import json
from typing import Any


class Unfinished(Exception):
    """The text may become calls when it goes on: what looked like the frame's end stood within a text."""


def read_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The names and arguments of a call, or of a list of them, whose arguments are literals with names.

    Raises:
        Unfinished: it is no Python, or not yet.
        ValueError: it is more than such calls.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise Unfinished from error
    calls = tree.elts if isinstance(tree, ast.List) else [tree]
    read: list[tuple[str, dict[str, Any]]] = []
    for call in calls:
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name | ast.Attribute):
            raise ValueError("no call")
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("no names")
        read.append((ast.unparse(call.func), {str(each.arg): _literal(each.value) for each in call.keywords}))
    if not read:
        raise ValueError("no calls")
    return read


_WORDS = {"true": True, "false": False, "null": None}


def _literal(node: ast.expr) -> Any:
    """The value of a literal; JSON's words for true, false and nothing are understood, too."""

    class _Words(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            return ast.Constant(_WORDS[name.id]) if name.id in _WORDS else name

    try:
        value = ast.literal_eval(_Words().visit(node))
        json.dumps(value, allow_nan=False)  # sets, bytes and complex numbers are no JSON
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("no literal") from error
    return value
