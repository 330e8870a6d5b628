"""One line that stands for a text, no wider than a terminal has room for.

Knows characters and their columns; knows no conversation.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

TITLE_COLUMNS = 60


def title_of(text: str) -> str:
    """The first line that says something, as one line of at most `TITLE_COLUMNS` terminal columns."""
    return shortened(one_line(next((line for line in text.splitlines() if line.strip()), "")), TITLE_COLUMNS)


def one_line(text: str) -> str:
    """`text` without control characters, each run of white space a single space."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def shortened(line: str, room: int) -> str:
    """`line` in at most `room` terminal columns; an ellipsis stands where it was cut."""
    if columns(line) <= room:
        return line
    room -= 1
    for index, character in enumerate(line):
        room -= _columns(character)
        if room < 0:
            return line[:index].rstrip() + "…"
    return line


def columns(line: str) -> int:
    """How wide a terminal shows `line`."""
    return len(line) if line.isascii() else sum(map(_columns, line))


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
