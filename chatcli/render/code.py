"""Code in colours, a line at a time, so that a line is final as soon as it is whole.

The colours of a line depend on the lines before it alone: on those that a comment or a text over several lines
has open. Where a language keeps more in mind than that, some colours are plainer than a whole file's would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from chatcli.render.rows import BOLD, CYAN, DIM, GREEN, ITALIC, MAGENTA, RED, TAB, Row, Span

if TYPE_CHECKING:
    from pygments.lexer import Lexer

LONGEST_CARRY = 50
"""Lines of an open text or comment that are read again for the next line's colours."""
_STYLES = {
    "Comment": f"{DIM};{ITALIC}",
    "Keyword": MAGENTA,
    "Operator.Word": MAGENTA,
    "Literal.String": GREEN,
    "Literal.Number": CYAN,
    "Name.Builtin": CYAN,
    "Name.Decorator": CYAN,
    "Name.Function": BOLD,
    "Name.Class": BOLD,
    "Name.Tag": MAGENTA,
    "Name.Attribute": CYAN,
    "Generic.Inserted": GREEN,
    "Generic.Deleted": RED,
    "Generic.Heading": BOLD,
    "Generic.Subheading": CYAN,
}


def highlighted(language: str, lines: Sequence[str], carry: str = "") -> tuple[list[Row], str]:
    """The rows of code lines, and the carry for the lines that follow.

    `language` is what the fence says, of whatever sense; `carry` is the open text or comment before the lines.
    """
    lexer = _lexer(language.lower())
    rows: list[Row] = []
    for line in lines:
        text = line.expandtabs(TAB)
        if not lexer:
            rows.append((Span(text),))
            continue
        *_, row = _rows(lexer, f"{carry}{text}\n")
        rows.append(tuple(row))
        carry = f"{carry}{text}\n" if _goes_on(lexer, f"{carry}{text}\n") else ""
        if carry.count("\n") > LONGEST_CARRY:
            carry = carry[carry.index("\n") + 1 :] if _goes_on(lexer, carry[carry.index("\n") + 1 :]) else ""
    return rows, carry


@lru_cache(maxsize=8)
def _lexer(language: str) -> Lexer | None:
    if not language:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        found: Lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return found


@lru_cache(maxsize=256)
def _tokens(lexer: Lexer, text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(kind).removeprefix("Token."), value) for kind, value in lexer.get_tokens(text))


def _rows(lexer: Lexer, text: str) -> Iterator[list[Span]]:
    row: list[Span] = []
    for kind, value in _tokens(lexer, text):
        style = _style(kind)
        first, *rest = value.split("\n")
        row += [Span(first, style)] if first else []
        for part in rest:
            yield row
            row = [Span(part, style)] if part else []


def _goes_on(lexer: Lexer, text: str) -> bool:
    """Whether the last newline belongs to a text or a comment."""
    kind, _ = _tokens(lexer, text)[-1]
    return kind.startswith(("Literal.String", "Comment.Multiline"))


@lru_cache(maxsize=256)
def _style(kind: str) -> str:
    """The style of the nearest kind above that has one."""
    while kind and kind not in _STYLES:
        kind = kind.rpartition(".")[0]
    return _STYLES.get(kind, "")
