"""Styled text in rows: how wide it is, where it breaks, how it is written with escape codes.

Styles are the parameters of "select graphic rendition" (ECMA-48, 8.3.117): "1" bold, "35" the palette's magenta.
Only the palette is used, so that the person's own light or dark theme chooses the shades. Knows no Markdown.

Widths are those of single code points, added up: a terminal that draws joined emoji narrower than their
parts leaves a gap, but no row is ever wider than the screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

BOLD, DIM, ITALIC, UNDERLINE, STRIKE = "1", "2", "3", "4", "9"
RED, GREEN, MAGENTA, CYAN = "31", "32", "35", "36"
TAB = 4
_COLORS = frozenset((DIM, RED, GREEN, MAGENTA, CYAN))
_EMOJI_STYLE = "\ufe0f"
_NOT_FIRST = frozenset("，。、；：？！）】》」』〉”’…,.;:?!)]}%")  # punctuation that begins no row


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text in one style; `style` is empty or parameters joined by semicolons."""

    text: str
    style: str = ""


Row = tuple[Span, ...]
"""One line. It may be wider than the screen only where the terminal itself is to break it, as in code."""


@lru_cache(maxsize=4096)
def _char_width(char: str) -> int:
    from wcwidth import wcwidth

    return 1 if char == _EMOJI_STYLE else max(wcwidth(char), 0)


def width(text: str) -> int:
    """Columns that `text` takes at most."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def row_width(row: Row) -> int:
    """Columns that a row takes at most."""
    return sum(width(span.text) for span in row)


def plain(row: Row) -> str:
    """The text of a row."""
    return "".join(span.text for span in row)


def encoded(row: Row, *, color: bool) -> str:
    """A row with its escape codes; without `color` bold, italic, underline and strike are left."""
    runs = groupby(row, key=lambda span: span.style)
    return "".join(_encoded(Span("".join(span.text for span in spans), style), color) for style, spans in runs)


def _encoded(span: Span, color: bool) -> str:
    codes = [code for code in span.style.split(";") if code and (color or code not in _COLORS)]
    return f"\x1b[{';'.join(codes)}m{span.text}\x1b[0m" if codes and span.text else span.text


def styled(spans: Sequence[Span], style: str) -> Row:
    """The spans with one style more."""
    return tuple(Span(span.text, f"{span.style};{style}" if span.style else style) for span in spans)


def split(row: Row, columns: int) -> list[Row]:
    """A row cut hard, as a terminal of so many columns cuts it."""
    if row_width(row) <= columns:
        return [row]
    rows: list[list[Span]] = [[]]
    used = 0
    for span in row:
        start = 0
        for at, char in enumerate(span.text):
            if used + _char_width(char) > columns and used:
                rows[-1].append(Span(span.text[start:at], span.style))
                rows.append([])
                start, used = at, 0
            used += _char_width(char)
        rows[-1].append(Span(span.text[start:], span.style))
    return [tuple(each for each in row if each.text) for row in rows]


def wrap(spans: Sequence[Span], columns: int) -> list[Row]:
    r"""Break text between words, and at each `\n`; a word wider than `columns` is cut.

    Where a row breaks depends only on what stands before, so that finished rows stay as they are.
    """
    rows: list[Row] = []
    row: list[Span] = []
    used = 0
    gap: Span | None = None
    for piece in _pieces(spans):
        if piece == _NEWLINE:
            rows.append(tuple(row))
            row, used, gap = [], 0, None
        elif piece[0].text.isspace():
            gap = piece[0]
        else:
            wide = row_width(piece)
            space = width(gap.text) if gap and used else 0
            if used and used + space + wide > columns:
                rows.append(tuple(row))
                row, used, gap, space = [], 0, None, 0
            if gap and used:
                row.append(gap)
            *whole, last = split(piece, columns)
            if whole:
                rows += whole
                row, used = [], 0
            row += last
            used = row_width(tuple(row)) if whole else used + space + wide
            gap = None
    return [*rows, tuple(row)]


_NEWLINE: Row = (Span("\n"),)
_WORDS = re.compile(r"\n|[^\S\n]+|\S+")


def _pieces(spans: Sequence[Span]) -> Iterator[Row]:
    """Newlines, white space and what may not be broken; wide characters may be broken between, but for punctuation."""
    word: list[Span] = []
    for span in spans:
        for found in _WORDS.findall(span.text):
            if found.isspace():
                if word:
                    yield tuple(word)
                    word = []
                yield _NEWLINE if found == "\n" else (Span(found.replace("\t", " " * TAB), span.style),)
                continue
            for part in _breakable(found):
                if word and may_break(plain(tuple(word))[-1], part[0]):
                    yield tuple(word)
                    word = []
                word.append(Span(part, span.style))
    if word:
        yield tuple(word)


def _breakable(text: str) -> list[str]:
    """A run without white space, cut where it may be broken."""
    if text.isascii():
        return [text]
    cuts = [i for i in range(1, len(text)) if may_break(text[i - 1], text[i])]
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def may_break(before: str, after: str) -> bool:
    """Whether a row may end between two characters that no white space parts: beside a wide one."""
    if after in _NOT_FIRST or _char_width(after) == 0 or after == _EMOJI_STYLE or before == "\u200d":
        return False
    return _char_width(before) == 2 or _char_width(after) == 2
