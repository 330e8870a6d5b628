"""Rows of text in columns, for the commands that list things.

Knows text and how many cells it takes; it knows no command and no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chatcli.streaming.sanitize import sanitize

_BETWEEN = "  "
SHORTEST_NAME = 16
"""A first column that is narrower than this is not worth having beside the others."""


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, its cells below each other; the last cell is as long as it is."""
    from rich.cells import cell_len

    clean = [[sanitize(cell, single_line=True) for cell in row] for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*(row[:-1] for row in clean), strict=True)]
    for row in clean:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False)]
        yield _BETWEEN.join([*padded, row[-1]]).rstrip()


def fitted(rows: Sequence[Sequence[str]], width: int, less: Sequence[int]) -> Iterator[str]:
    """The same within `width`; the first cell is never cut, for people copy it.

    Columns are left out in the order of `less` until a usual name has room beside the rest; a longer name stands on
    a line of its own, above its row.
    """
    from rich.cells import cell_len

    clean = [[sanitize(cell, single_line=True) for cell in row] for row in rows]
    lengths = [[cell_len(cell) for cell in row] for row in clean]
    longest = [max(column) for column in zip(*lengths, strict=True)]
    kept = list(range(1, len(longest)))
    for column in less:
        if _room(longest, kept, width) >= min(longest[0], SHORTEST_NAME):
            break
        kept.remove(column)
    room = max(_room(longest, kept, width), 0)
    name = max((length[0] for length in lengths if length[0] <= room), default=0)
    for row, length in zip(clean, lengths, strict=True):
        first = row[0] + " " * (name - length[0])
        if length[0] > name:
            yield row[0]
            first = " " * name
        cells = [row[at] + " " * (longest[at] - length[at]) for at in kept]
        yield _BETWEEN.join([first, *cells]).rstrip()


def _room(longest: Sequence[int], kept: Sequence[int], width: int) -> int:
    """What the columns `kept` leave to the first."""
    return width - sum(longest[at] + len(_BETWEEN) for at in kept)
