"""A line on standard error that says what is under way, how far it is and how long it will take, and vanishes.

Below it is one for each part, such as a file of a download. It knows `Progress` and a terminal's lines; nothing
appears where no person reads.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from chatcli.environment import Environment
from chatcli.generation import Progress
from chatcli.render.rows import DIM, Span, encoded, split

REDRAW_SECONDS = 0.1
QUIET_SECONDS = 0.3
"""What takes less time is not worth a line."""
SURE_SECONDS = 1.0
"""So long a stage is watched before the time that is left is told."""
BAR = 20
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


Result = TypeVar("Result")


class ProgressLine:
    """Shows the latest `Progress` on standard error; notes stay, each on a line of its own."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._begun = self._drawn = environment.monotonic()
        self._rows = 0  # that stand there now
        self._first = Progress("")  # of the stage that is under way, and when it came
        self._first_at = 0.0

    def show(self, progress: Progress) -> None:
        """Redraw the line, at most ten times a second; print a note at once."""
        if progress.note:
            self.clear()
            self._environment.note(f"chatcli: {progress.note}")
            return
        now = self._environment.monotonic()
        if (progress.stage, progress.total) != (self._first.stage, self._first.total):
            self._first, self._first_at = progress, now
        if (
            not self._environment.stderr_is_terminal
            or not self._environment.can_erase
            or now - self._begun < QUIET_SECONDS
            or now - self._drawn < REDRAW_SECONDS
        ):
            return
        self._drawn = now
        left = seconds_left(self._first, progress, now - self._first_at)
        columns, height = self._environment.terminal_size()
        texts = [line(progress, left, columns - 1), *part_lines(progress, columns - 1)][: max(height - 1, 1)]
        rows = [split((Span(text, DIM),), columns - 1)[0] for text in texts]
        shown = "\r\n".join(encoded(row, color=self._environment.color) for row in rows)
        self._write(self._taken_away() + shown)
        self._rows = len(rows)

    def clear(self) -> None:
        """Take the lines away."""
        if self._rows:
            self._write(self._taken_away())
            self._rows = 0

    def _taken_away(self) -> str:
        """The codes that erase what stands there; the cursor is in its last row."""
        return f"\r\x1b[{self._rows - 1}A\x1b[J" if self._rows > 1 else "\r\x1b[2K"

    def _write(self, text: str) -> None:
        self._environment.stderr.write(text)
        self._environment.stderr.flush()


def shown_while(work: Generator[Progress, None, Result], environment: Environment) -> Result:
    """What `work` returns, with its progress on the line meanwhile."""
    progress = ProgressLine(environment)
    try:
        while True:
            try:
                progress.show(next(work))
            except StopIteration as end:
                result: Result = end.value
                return result
    finally:
        progress.clear()


def seconds_left(first: Progress, now: Progress, seconds: float) -> float | None:
    """How long the rest takes at the rate since `first`, `seconds` ago; None where that cannot be told yet."""
    done = now.done - first.done
    if seconds < SURE_SECONDS or done <= 0 or now.done >= now.total:
        return None
    return (now.total - now.done) * seconds / done


def line(progress: Progress, left: float | None, columns: int) -> str:
    """A progress within `columns`: words, the time left, a bar, as much of it as there is room for."""
    words = described(progress)
    if not progress.total:
        return words
    share = min(progress.done / progress.total, 1)
    filled = round(share * BAR)
    bar = "━" * filled + "─" * (BAR - filled)
    time = "" if left is None else f"{duration(left)} left"
    candidates = (
        "  ".join(part for part in (words, bar, time) if part),
        "  ".join(part for part in (words, time) if part),
        words,
        f"{progress.stage} {share:.0%}",
    )
    return next((text for text in candidates if len(text) <= columns), candidates[-1])


def part_lines(progress: Progress, columns: int) -> list[str]:
    """A line for each part, its name in front; none where the whole has just one."""
    if len(progress.parts) < 2 and progress.parts[:1] and progress.parts[0].total == progress.total:
        return []
    wide = max((len(part.name) for part in progress.parts), default=0)
    parts = (Progress(f"  {part.name:<{wide}}", part.done, part.total, progress.unit) for part in progress.parts)
    return [line(part, None, columns) for part in parts]


def duration(seconds: float) -> str:
    """A time for people: "8 s", "3 min 20 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def described(progress: Progress) -> str:
    """A progress in words: "loading 1.2 of 13.5 GB", "reading 512 of 2048 tokens"."""
    if not progress.total:
        return f"{progress.stage} ..." if not progress.done else f"{progress.stage} {progress.done} {progress.unit}"
    if progress.unit == "B":
        size, unit = next(((size, unit) for size, unit in _UNITS if progress.total >= size), (1, "B"))
        return f"{progress.stage} {progress.done / size:.1f} of {progress.total / size:.1f} {unit}"
    return f"{progress.stage} {progress.done} of {progress.total} {progress.unit}".rstrip()
