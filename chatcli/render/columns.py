"""Rows of text in columns, for the commands that list things.

Knows text and how many cells it takes; it knows no command and no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chatcli.streaming.sanitize import sanitize


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, its cells below each other; the last cell is as long as it is."""
    from rich.cells import cell_len

    clean = [[sanitize(cell, single_line=True) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*(row[:-1] for row in clean), strict=True)]
    for row in clean:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*padded, row[-1]]).rstrip()
