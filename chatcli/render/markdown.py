r"""Markdown as rows of a terminal, made so that what is finished stays as it is when more text comes.

CommonMark with tables and strikethrough, parsed by markdown-it-py. What would change rows that are long printed is
left out: underlined headings (setext), reference definitions, and a list's looseness and counting: items keep the
numbers and the blank lines that the model wrote. A newline is kept. HTML is text. A table's rows begin with `|`.
Not done: footnotes, images, typesetting of math.

Blocks may hold `PRINTED` where rows of theirs were printed before; `render.stream` puts it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table as github_table
from markdown_it.tree import SyntaxTreeNode

from chatcli.render import inline, table
from chatcli.render.code import highlighted
from chatcli.render.inline import PRINTED
from chatcli.render.rows import BOLD, DIM, ITALIC, UNDERLINE, Row, Span, styled, wrap

CONTAINERS = ("list_item", "blockquote", "bullet_list", "ordered_list")
NARROWEST = 10
"""Columns below which nested blocks are no longer indented."""
DEEPEST = 100
"""Levels of nesting; the parser drops what is deeper."""
_HEADINGS = {"h1": f"{BOLD};{UNDERLINE}", "h2": BOLD}
_MATH = {"$$": "$$", "\\[": "\\]"}


@dataclass(frozen=True, slots=True)
class Carried:
    """What the finished part of a block leaves to the rest of it: open code, the widths of a table."""

    code: str = ""
    widths: tuple[int, ...] | None = None


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """The parser with our choice of rules."""
    made = MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    made.disable(["reference", "lheading", "html_block", "html_inline", "entity"])
    made.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    made.block.ruler.before("fence", "math_block", _math_block, {"alt": ["paragraph", "blockquote", "list"]})
    inline.add_inline_rules(made)
    return made


def parse(source: str) -> SyntaxTreeNode:
    """The tree of a text."""
    return SyntaxTreeNode(parser().parse(source))


def render(source: str, columns: int, *, color: bool = True) -> list[Row]:
    """All rows of a whole text; prose is wrapped to leave the last column free."""
    return rows_of(parse(source), source, columns, Carried(), color=color)


def rows_of(root: SyntaxTreeNode, source: str, columns: int, carried: Carried, *, color: bool) -> list[Row]:
    """All rows of a parsed text whose finished parts left `carried`."""
    return _Layout(source.split("\n"), carried, color).blocks(root.children, columns - 1)


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table, but only one that shows in its first sign that it is one."""
    return state.src.startswith("|", state.bMarks[start] + state.tShift[start]) and github_table(
        state, start, end, silent
    )


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""`$$` or `\[` at the beginning of a line, to its other half or a blank line: the lines as they are."""
    if state.is_code_block(start):
        return False
    line = _line(state, start)
    close = _MATH.get(line[:2])
    if not close or close in line[2:]:
        return False
    if silent:
        return True
    last = start + 1
    while last < end and not state.isEmpty(last) and state.sCount[last] >= state.blkIndent:
        last += 1
        if _line(state, last - 1).rstrip().endswith(close):
            break
    state.line = last
    token = state.push("math_block", "", 0)
    token.content = state.getLines(start, last, state.sCount[start], False)
    token.map = [start, last]
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def goes_on(node: SyntaxTreeNode) -> bool:
    """Whether the block's first row was printed before."""
    if node.type in CONTAINERS:
        return bool(node.children) and goes_on(node.children[0])
    if node.type == "fence":
        return PRINTED in node.info
    if node.type == "table":
        return PRINTED in node.children[0].children[0].children[0].children[0].content
    return node.type == "paragraph" and node.children[0].content.startswith(PRINTED)


def is_closed(fence: SyntaxTreeNode) -> bool:
    """Whether the closing line of a fence has come."""
    first, last = lines_of(fence)
    return last - first == len(fence.content.splitlines()) + 2


def lines_of(node: SyntaxTreeNode) -> tuple[int, int]:
    """The first line of a block and the line behind its last."""
    assert node.map, node.type  # the parser gives every block its lines
    return node.map


def apart(lines: Sequence[str], before: SyntaxTreeNode, node: SyntaxTreeNode) -> bool:
    """Whether a blank line is between two blocks; behind a mark of what was printed, one of two counts."""
    start = lines_of(node)[0]
    blank = 0
    while blank < start and not lines[start - 1 - blank].strip(" \t>"):
        blank += 1
    return blank > (1 if _ends_printed(before) else 0)


def room_within(containers: Sequence[SyntaxTreeNode], columns: int) -> int:
    """Columns that are left inside of containers, outermost first; narrow items take none."""
    for node in containers:
        indent = 2 if node.type == "blockquote" else len(_marker(node))
        if node.type == "blockquote" or columns - indent >= NARROWEST:
            columns = max(columns - indent, 1)
    return columns


def _marker(item: SyntaxTreeNode) -> str:
    return f"{item.info}{item.markup} " if item.info else "• "


@dataclass(frozen=True, slots=True)
class _Layout:
    lines: Sequence[str]
    carried: Carried
    color: bool

    def blocks(self, nodes: Sequence[SyntaxTreeNode], columns: int) -> list[Row]:
        rows: list[Row] = []
        for at, node in enumerate(nodes):
            if at and not goes_on(node) and apart(self.lines, nodes[at - 1], node):
                rows.append(())
            rows += self.block(node, columns)
        return rows

    def block(self, node: SyntaxTreeNode, columns: int) -> list[Row]:
        match node.type:
            case "paragraph":
                if node.children[0].content == PRINTED:
                    return []
                return wrap(self._spans(node.children[0]), columns)
            case "heading":
                style = _HEADINGS.get(node.tag, f"{BOLD};{ITALIC}")
                return wrap(styled(self._spans(node.children[0]), style), columns)
            case "hr":
                return [(Span("─" * min(columns, 40), DIM),)]
            case "fence":
                return self._fence(node)
            case "table":
                return self._table(node, columns)
            case "blockquote":
                bar = Span("│ ", DIM)
                return [(bar, *row) for row in self.blocks(node.children, room_within((node,), columns))]
            case "list_item":
                return self._item(node, columns)
            case "bullet_list" | "ordered_list":
                return self.blocks(node.children, columns)
            case _:  # indented code and math
                return [(Span(line.expandtabs()),) for line in node.content.rstrip("\n").split("\n")]

    def _spans(self, node: SyntaxTreeNode) -> list[Span]:
        token = node.token
        return inline.spans(token.children or [] if token else [], color=self.color)

    def _item(self, node: SyntaxTreeNode, columns: int) -> list[Row]:
        marker, room = _marker(node), room_within((node,), columns)
        indent = (Span(" " * len(marker)),) if room < columns else ()
        rows = [(*indent, *row) if row else () for row in self.blocks(node.children, room)]
        if goes_on(node):
            return rows
        if not indent:
            return [(Span(marker.rstrip()),), *rows]
        first, *rest = rows or [indent]
        return [(Span(marker), *first[1:]), *rest]

    def _fence(self, node: SyntaxTreeNode) -> list[Row]:
        """Code without frame or margin, so that copying gives the code; the fences are shown, dim."""
        lines = node.content.removesuffix("\n").split("\n") if node.content else []
        carry = self.carried.code if goes_on(node) else ""
        rows, _ = highlighted(language(node), lines, carry)
        opening = (Span(f"{node.markup}{node.info.strip()}", DIM),)
        closing = [(Span(node.markup, DIM),)] if is_closed(node) else []
        return [*([] if goes_on(node) else [opening]), *rows, *closing]

    def _table(self, node: SyntaxTreeNode, columns: int) -> list[Row]:
        header, body, aligns = self.cells(node)
        widths = self.carried.widths if goes_on(node) else table.column_widths(header, body, columns)
        rows = [] if goes_on(node) else table.head(header, widths or (), aligns)
        for at, cells in enumerate(body):
            if not widths and (at or goes_on(node)):
                rows.append(())
            rows += table.body_row(header, cells, widths or (), aligns, columns)
        return rows

    def cells(self, node: SyntaxTreeNode) -> tuple[list[table.Cell], list[list[table.Cell]], list[str]]:
        """The header, the body and the alignments of a table."""
        parts = [
            [[self._spans(cell.children[0]) for cell in row.children] for row in part.children]
            for part in node.children
        ]
        styles = [str(cell.attrs.get("style", "")) for cell in node.children[0].children[0].children]
        return parts[0][0], parts[1] if len(parts) > 1 else [], [style.removeprefix("text-align:") for style in styles]


def table_widths(node: SyntaxTreeNode, columns: int, carried: Carried, *, color: bool) -> tuple[int, ...]:
    """The widths that a table of at least `table.ROWS_THAT_COUNT` rows keeps to its end."""
    if goes_on(node):
        return carried.widths or ()
    header, body, _ = _Layout((), carried, color).cells(node)
    return table.column_widths(header, body, columns)


def language(fence: SyntaxTreeNode) -> str:
    """The first word behind the fence."""
    return (fence.info.replace(PRINTED, "").split() or [""])[0]


def _ends_printed(node: SyntaxTreeNode) -> bool:
    while node.type in CONTAINERS and node.children:
        node = node.children[-1]
    return node.type == "paragraph" and node.children[0].content == PRINTED
