"""A table in rows: columns beside each other where they fit, else a paragraph a row.

The widths of the columns come from the first rows alone, so that a long table can be shown while it grows.
Knows no Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from chatcli.render.rows import BOLD, DIM, Row, Span, plain, row_width, styled, wrap

Cell = list[Span]
ROWS_THAT_COUNT = 30
"""So many rows decide how wide the columns are; cells below that are wider are wrapped."""
NARROWEST = 6
_BETWEEN = " │ "


def column_widths(header: Sequence[Cell], body: Sequence[Sequence[Cell]], columns: int) -> tuple[int, ...]:
    """How wide each column is within `columns` in all; none where they do not fit beside each other."""
    counted = [header, *body[:ROWS_THAT_COUNT]]
    wanted = [max(row_width(row) for cells in counted for row in _lines(cells, at)) for at in range(len(header))]
    room = columns - len(_BETWEEN) * (len(header) - 1)
    if sum(wanted) <= room:
        return tuple(wanted)
    if room < NARROWEST * len(header):
        return ()
    # The widest give way until all fit: the largest limit under which the columns have room.
    limit = max(each for each in range(NARROWEST, room + 1) if sum(min(want, each) for want in wanted) <= room)
    return tuple(min(want, limit) for want in wanted)


def _lines(cells: Sequence[Cell], at: int) -> list[Row]:
    return wrap(cells[at], 10**6) if at < len(cells) else [()]


def head(header: Sequence[Cell], widths: Sequence[int], aligns: Sequence[str]) -> list[Row]:
    """The names of the columns and the line below them; nothing where columns do not fit."""
    if not widths:
        return []
    line = "─┼─".join("─" * wide for wide in widths)
    return [*_beside([list(styled(cell, BOLD)) for cell in header], widths, aligns), (Span(line, DIM),)]


def body_row(
    header: Sequence[Cell], cells: Sequence[Cell], widths: Sequence[int], aligns: Sequence[str], columns: int
) -> list[Row]:
    """One row; without widths each cell stands on a line of its own behind the column's name."""
    if widths:
        return _beside(cells, widths, aligns)
    named: list[Row] = []
    for at, cell in enumerate(cells[: len(header)]):
        if cell:
            named += wrap([*styled(header[at], BOLD), Span(": "), *cell], columns)
    return named


def _beside(cells: Sequence[Cell], widths: Sequence[int], aligns: Sequence[str]) -> list[Row]:
    wrapped = [wrap(cells[at] if at < len(cells) else (), wide) for at, wide in enumerate(widths)]
    rows: list[Row] = []
    for parts in zip_longest(*wrapped, fillvalue=()):
        row: list[Span] = []
        for at, (part, wide) in enumerate(zip(parts, widths, strict=True)):
            row += [Span(_BETWEEN, DIM)] if at else []
            row += _aligned(part, wide, aligns[at] if at < len(aligns) else "")
        while row and not plain((row[-1],)).strip():
            row.pop()
        rows.append(tuple(row))
    return rows


def _aligned(row: Row, wide: int, align: str) -> list[Span]:
    missing = max(wide - row_width(row), 0)
    left = {"right": missing, "center": missing // 2}.get(align, 0)
    return [Span(" " * left), *row, Span(" " * (missing - left))]
