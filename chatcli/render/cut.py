"""Where a text that still grows can be cut: before the cut nothing changes any more, whatever comes.

Every cut gives a shorter source for the part that is still open: the lines that its containers began with, marked
as printed, and the lines behind the cut. Knows the parser's tree; knows no screen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from chatcli.render import inline, table
from chatcli.render.code import highlighted
from chatcli.render.inline import PRINTED
from chatcli.render.markdown import (
    CONTAINERS,
    Carried,
    apart,
    goes_on,
    is_closed,
    language,
    lines_of,
    parser,
    room_within,
    table_widths,
)
from chatcli.render.rows import may_break, wrap

Containers = tuple[SyntaxTreeNode, ...]
Gap = tuple[int, int]
"""Where the text before ends, and where the text behind begins."""
LIVE_ROWS = 2
"""Rows at the end of a growing paragraph that are kept back: the last word may still move to another row."""
ATTEMPTS = 4
_QUOTE = r" *> ?"
_ITEM = r" *(?:[-+*]|\d{1,9}[.)])(?: {1,4}(?! )| (?= {4})|$)"
_GAP = re.compile(r"(?<=[^\s\\])[ \n](?=\S)")


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left of the source, and what the finished part leaves to it."""

    source: str
    carried: Carried


@dataclass(frozen=True, slots=True)
class Open:
    """The last block of a text, with the containers that it stands in, outermost first."""

    leaf: SyntaxTreeNode
    containers: Containers
    siblings: tuple[tuple[SyntaxTreeNode, SyntaxTreeNode, Containers], ...]
    """Of every level that has two blocks or more: the last but one, the last, their containers."""


def open_end(root: SyntaxTreeNode) -> Open | None:
    """The way down to the last block; None for a text without blocks."""
    node = root
    containers: Containers = ()
    siblings: list[tuple[SyntaxTreeNode, SyntaxTreeNode, Containers]] = []
    while node.children:
        if len(node.children) > 1:
            siblings.append((node.children[-2], node.children[-1], containers))
        node = node.children[-1]
        if node.type not in CONTAINERS:
            return Open(node, containers, tuple(siblings))
        if node.type in ("list_item", "blockquote"):
            containers = (*containers, node)
    return None


def block_cuts(end: Open, lines: Sequence[str], columns: int, carried: Carried, *, color: bool) -> Iterator[Cut]:
    """The cuts of a text of whole lines, the latest first; each must prove itself (`render.stream`)."""
    leaf, kept = end.leaf, _kept(lines, end.containers)
    if kept:
        if leaf.type == "fence" and leaf.content.strip() and not is_closed(leaf):
            yield _code_cut(leaf, kept, lines, carried)
        if leaf.type == "table" and (goes_on(leaf) or _length(leaf) > table.ROWS_THAT_COUNT + 2):
            widths = table_widths(leaf, room_within(end.containers, columns - 1), carried, color=color)
            yield _table_cut(leaf, kept, lines, widths)
        if _is_finished(leaf, lines):
            yield Cut("\n".join((*kept.or_mark, *lines[lines_of(leaf)[1] :])), Carried())
    for before, last, containers in reversed(end.siblings):
        if kept := _kept(lines, containers):
            first = lines_of(last)[0] - apart(lines, before, last)
            yield Cut("\n".join((*kept.or_mark, *lines[first:])), carried)


def _code_cut(fence: SyntaxTreeNode, kept: _Kept, lines: Sequence[str], carried: Carried) -> Cut:
    """Behind the lines of a fence that is open: each is final, but blank ones at the end may stand behind it."""
    code = fence.content.rstrip().split("\n")
    behind = lines_of(fence)[0] + 1 + len(code)
    _, carry = highlighted(language(fence), code, carried.code if goes_on(fence) else "")
    opening = kept.at_margin(lines, fence)
    marked = opening if goes_on(fence) else f"{opening.rstrip()} {PRINTED}"
    return Cut("\n".join((*kept.lines, marked, *lines[behind:])), Carried(code=carry))


def _table_cut(grown: SyntaxTreeNode, kept: _Kept, lines: Sequence[str], widths: tuple[int, ...]) -> Cut:
    """Behind all rows of a table whose widths are settled."""
    head = kept.at_margin(lines, grown)
    marked = head if goes_on(grown) else head.replace("|", f"|{PRINTED}", 1)
    first, end = lines_of(grown)
    return Cut("\n".join((*kept.lines, marked, lines[first + 1], *lines[end:])), Carried(widths=widths))


def _length(node: SyntaxTreeNode) -> int:
    first, last = lines_of(node)
    return last - first


def _is_finished(leaf: SyntaxTreeNode, lines: Sequence[str]) -> bool:
    """Whether no line to come can belong to the block; `lines` end with an empty rest."""
    if leaf.type in ("heading", "hr"):
        return True
    if leaf.type == "fence":
        return is_closed(leaf)
    if leaf.type == "code_block" or (leaf.type == "paragraph" and leaf.children[0].content == PRINTED):
        return False
    return lines_of(leaf)[1] < len(lines) - 1


def paragraph_cut(end: Open, lines: Sequence[str], columns: int, *, color: bool) -> Iterator[Cut]:
    """The cuts of a growing paragraph: between rows where no emphasis, code, link or math is open."""
    kept = _kept(lines, end.containers)
    if end.leaf.type != "paragraph" or not kept:
        return
    content = end.leaf.children[0].content
    room = room_within(end.containers, columns - 1)

    def rows(length: int) -> int:
        return len(wrap(inline.spans(_inline(content[:length]), color=color), room))

    total = rows(len(content))
    gaps = _gaps(content) if total > LIVE_ROWS else []
    for count in range(total - LIVE_ROWS, max(total - LIVE_ROWS - ATTEMPTS, 0), -1):
        end_of_row, start = _last(gaps, lambda gap, count=count: rows(gap[0]) <= count)  # type: ignore[misc]
        line = content.count("\n", 0, start)
        may_be_a_table = content.split("\n")[line].startswith("|")
        # The next word decides where the row ends, so it must be settled as well.
        behind = next((gap[0] for gap in gaps if gap[0] > start), 0)
        settled = behind and not any(
            inline.unresolved(_inline(content[:length]), content[length]) for length in (end_of_row, behind)
        )
        if end_of_row and settled and not may_be_a_table:
            at = lines_of(end.leaf)[0] + line
            rest = content[start:].split("\n")[0]
            if line == content.count("\n"):
                rest += lines[at][len(lines[at].rstrip()) :]
            yield Cut("\n".join((*kept.lines, f"{kept.margin}{PRINTED} {rest}", *lines[at + 1 :])), Carried())


def _inline(text: str) -> list[Token]:
    return parser().parseInline(text)[0].children or []


def _gaps(content: str) -> list[Gap]:
    """Where a row may end and where the next begins: at white space, and between wide letters."""
    gaps = [(found.start(), found.end()) for found in _GAP.finditer(content)]
    if not content.isascii():
        gaps += [
            (at, at)
            for at in range(1, len(content))
            if content[at - 1].isalnum() and content[at].isalnum() and may_break(content[at - 1], content[at])
        ]
        gaps.sort()
    return gaps


def _last(gaps: Sequence[Gap], fits: Callable[[Gap], bool]) -> Gap:
    """The last gap that fits, by bisection; (0, 0) where none does."""
    low, high = 0, len(gaps)
    while low < high:
        middle = (low + high) // 2
        if fits(gaps[middle]):
            low = middle + 1
        else:
            high = middle
    return gaps[low - 1] if low else (0, 0)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The lines that containers began with, marked as printed; `margin` leads to their content."""

    lines: tuple[str, ...]
    margin: str
    taken: dict[int, int]

    @property
    def or_mark(self) -> tuple[str, ...]:
        """The lines; outside all containers a mark in their place."""
        return self.lines or (PRINTED, "")

    def at_margin(self, lines: Sequence[str], leaf: SyntaxTreeNode) -> str:
        """The first line of a block, without the markers of containers that begin in it."""
        first = lines_of(leaf)[0]
        return self.margin + lines[first][self.taken[first] :] if first in self.taken else lines[first]


def _kept(lines: Sequence[str], containers: Containers) -> _Kept | None:
    """None where the markers are written in a way that is not understood here, as with tabs."""
    kept: list[str] = []
    margin, quotes = "", 0
    taken: dict[int, int] = {}
    for first in dict.fromkeys(lines_of(each)[0] for each in containers):
        begun = [each.type == "blockquote" for each in containers if lines_of(each)[0] == first]
        found = re.match(_QUOTE * quotes + "".join(_QUOTE if quote else _ITEM for quote in begun), lines[first])
        if not found:
            return None
        quotes += sum(begun)
        prefix = found[0] if found[0].endswith(" ") else found[0] + " "
        margin = re.sub("[^> ]", " ", prefix)
        taken[first] = found.end()
        kept += [prefix + PRINTED, prefix[: prefix.rfind(">") + 1]]
    return _Kept(tuple(kept), margin, taken)
