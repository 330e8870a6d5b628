"""Markdown while it grows: rows that are finished, once, and the rows of the last block, which may still change.

Only the open end of the text is parsed, so the cost grows with what is new. Put together, the finished rows are those
of one render of the whole text, however it was cut into pieces; a change of `columns` counts from the open end on.
Knows no screen.
"""

from __future__ import annotations

from collections.abc import Iterable

from markdown_it.tree import SyntaxTreeNode

from chatcli.render.cut import Cut, block_cuts, open_end, paragraph_cut
from chatcli.render.markdown import Carried, parse, rows_of
from chatcli.render.rows import Row


class MarkdownStream:
    """Feed it pieces of text, ask it for rows, and end it."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._source = ""
        self._carried = Carried()
        self._retry_at = 0  # the length at which a paragraph has grown enough to be tried again
        self._unread = False  # whole lines came that were not looked at for a cut

    def feed(self, text: str) -> None:
        """Add a piece of text."""
        self._source += text
        self._unread = self._unread or "\n" in text

    def rows(self, columns: int) -> tuple[list[Row], list[Row]]:
        """The rows that are finished since the last call, and the rows after them as they are now."""
        finished: list[Row] = []
        if self._unread:
            self._unread = False
            while rows := self._cut_between_lines(columns):
                finished += rows
        root = parse(self._source)
        if rows := self._cut_in_paragraph(root, columns):
            finished += rows
            root = parse(self._source)
        return finished, rows_of(root, self._source, columns, self._carried, color=self._color)

    def end(self, columns: int) -> list[Row]:
        """All rows that are left."""
        rows = self._rendered(self._source.rstrip(), self._carried, columns)
        self._source, self._carried = "", Carried()
        return rows

    def _rendered(self, source: str, carried: Carried, columns: int) -> list[Row]:
        return rows_of(parse(source), source, columns, carried, color=self._color)

    def _cut_between_lines(self, columns: int) -> list[Row]:
        """Cut what the whole lines make final; the last line, still unfinished, may yet mean anything."""
        whole = self._source[: self._source.rfind("\n") + 1]
        end = open_end(parse(whole))
        if not end:
            return []
        lines = whole.split("\n")
        cuts = block_cuts(end, lines, columns, self._carried, color=self._color)
        return self._first_good(cuts, whole, columns)

    def _cut_in_paragraph(self, root: SyntaxTreeNode, columns: int) -> list[Row]:
        end = open_end(root) if len(self._source) >= self._retry_at else None
        if not end:
            return []
        cuts = paragraph_cut(end, self._source.split("\n"), columns, color=self._color)
        rows = self._first_good(cuts, self._source, columns)
        length = len(self._source)
        self._retry_at = length + columns // 2 if rows else max(length * 9 // 8, length + columns // 2)
        return rows

    def _first_good(self, cuts: Iterable[Cut], source: str, columns: int) -> list[Row]:
        """Make the first cut behind which the rest gives the very rows that it gave before; returns the rows before."""
        rows: list[Row] | None = None
        for cut in cuts:
            if len(cut.source) >= len(source):
                continue
            rows = self._rendered(source, self._carried, columns) if rows is None else rows
            rest = self._rendered(cut.source, cut.carried, columns)
            count = len(rows) - len(rest)
            if count > 0 and rows[count:] == rest:
                self._source = cut.source + self._source[len(source) :]
                self._carried = cut.carried
                self._retry_at = 0
                return rows[:count]
        return []
