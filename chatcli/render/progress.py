"""A line on standard error that says what is under way, and vanishes.

It knows `Progress` and a terminal's line; nothing appears where no person reads.
"""

from __future__ import annotations

import shutil

from chatcli.environment import Environment
from chatcli.generation import Progress

REDRAW_SECONDS = 0.1
QUIET_SECONDS = 0.3
"""What takes less time is not worth a line."""
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


class ProgressLine:
    """Shows the latest `Progress` on one line of standard error; notes stay, each on a line of its own."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._begun = self._drawn = environment.monotonic()
        self._visible = False

    def show(self, progress: Progress) -> None:
        """Redraw the line, at most ten times a second; print a note at once."""
        if progress.note:
            self.clear()
            self._environment.note(f"chatcli: {progress.note}")
            return
        now = self._environment.monotonic()
        if (
            not self._environment.stderr_is_terminal
            or not self._environment.can_erase
            or now - self._begun < QUIET_SECONDS
            or now - self._drawn < REDRAW_SECONDS
        ):
            return
        self._drawn = now
        self._visible = True
        width = shutil.get_terminal_size().columns
        line = described(progress)[: width - 1]
        self._write("\r\x1b[2K" + (f"\x1b[2m{line}\x1b[22m" if self._environment.color else line))

    def clear(self) -> None:
        """Take the line away."""
        if self._visible:
            self._write("\r\x1b[2K")
            self._visible = False

    def _write(self, text: str) -> None:
        self._environment.stderr.write(text)
        self._environment.stderr.flush()


def described(progress: Progress) -> str:
    """A progress in words: "loading 1.2 of 13.5 GB", "reading 512 of 2048 tokens"."""
    if not progress.total:
        return f"{progress.stage} ..." if not progress.done else f"{progress.stage} {progress.done} {progress.unit}"
    if progress.unit == "B":
        size, unit = next(((size, unit) for size, unit in _UNITS if progress.total >= size), (1, "B"))
        return f"{progress.stage} {progress.done / size:.1f} of {progress.total / size:.1f} {unit}"
    return f"{progress.stage} {progress.done} of {progress.total} {progress.unit}".rstrip()
