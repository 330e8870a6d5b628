"""Rows on a terminal: what is finished stays, what is live is painted over, at the end of the scrollback.

Only rows that changed are written again, in one write inside of the codes for synchronised output (mode 2026), which
terminals that do not know them ignore. The cursor stays behind the last row; nothing asks where it is.

Not possible: to take back live rows that a window made smaller has pushed off its top; and to know for certain
whether a terminal breaks long lines anew when it gets narrower (most do; xterm and the Linux console cut them).
Knows rows; knows no Markdown.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from chatcli.environment import Environment
from chatcli.render.rows import Row, encoded, row_width, split

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_ERASE_BELOW, _ERASE_RIGHT = "\x1b[J", "\x1b[K"
Line = tuple[str, int]
"""A row with its codes, and its width."""


class Tail:
    """The last rows of a terminal; `highest` limits the live ones, and the screen does."""

    def __init__(self, environment: Environment, stream: TextIO, *, highest: int = 10**6) -> None:
        self._environment = environment
        self._stream = stream
        self._highest = highest
        self._painted: list[Line] = []
        self._size = environment.terminal_size()
        self._breaks_anew = _breaks_lines_anew(environment)

    @property
    def columns(self) -> int:
        """How wide the terminal is now."""
        return max(self._environment.terminal_size().columns, 2)

    def paint(self, finished: Sequence[Row], live: Sequence[Row]) -> None:
        """Put `finished` for good where the live rows were, and `live` below; of more than fit, the last."""
        size = self._environment.terminal_size()
        columns = max(size.columns, 2)
        cut = [part for row in live for part in split(row, columns)]
        live_lines = [self._line(row) for row in cut[-max(min(self._highest, size.lines - 1), 1) :]]
        lines = [self._line(row) for row in finished] + live_lines
        same = 0
        if size == self._size:
            pairs = zip(lines, self._painted, strict=False)
            same = next((at for at, (new, old) in enumerate(pairs) if new != old), min(len(lines), len(self._painted)))
        if same < len(lines) or same < len(self._painted) or (self._painted and not live_lines):
            self._write(lines, same, columns, size.lines, open_ended=bool(live_lines))
        self._painted, self._size = live_lines, size

    def _line(self, row: Row) -> Line:
        return encoded(row, color=self._environment.color), row_width(row)

    def _write(self, lines: Sequence[Line], same: int, columns: int, height: int, *, open_ended: bool) -> None:
        if len(lines) == same < len(self._painted):
            same = max(same - 1, 0)  # what is left must end with the cursor behind it
        out = [_BEGIN]
        gone = self._painted[same:]
        if gone:
            up = sum(self._height(wide, columns) for _, wide in gone) - 1
            out.append(f"\x1b[{min(up, height - 1)}A\r" if up > 0 else "\r")
        elif self._painted and same < len(lines):
            out.append("\n")
        for at, (text, wide) in enumerate(lines[same:], same):
            last = at == len(lines) - 1
            shrinks = last and len(gone) > len(lines) - same
            out.append(_ERASE_BELOW if shrinks or wide >= columns or columns != self._size.columns else "")
            out.append(text + ("" if wide >= columns else _ERASE_RIGHT))
            out.append("" if last and open_ended else "\n")
        if same == len(lines):
            out.append(_ERASE_BELOW if gone else "\n")
        self._stream.write("".join([*out, _END]))
        self._stream.flush()

    def _height(self, wide: int, columns: int) -> int:
        """Rows that a painted row takes by now: more than one where the window got narrower and breaks it."""
        return -(-wide // columns) if self._breaks_anew and wide > columns else 1


def _breaks_lines_anew(environment: Environment) -> bool:
    """Whether the terminal breaks long lines again when its width changes; `XTERM_VERSION` is xterm's own."""
    return "XTERM_VERSION" not in environment.variables and environment.variables.get("TERM") != "linux"


@contextmanager
def undisturbed() -> Generator[None]:
    """Hold Ctrl-C back while a frame is made and written, so that what is on the screen is what is known of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda signum, frame: caught.append((signum, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught and callable(before):
            before(*caught[0])
