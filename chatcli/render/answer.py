"""A reply on the streams: text on standard output, everything else on standard error and only for people.

It knows streams and events; it knows no engine and no history.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from chatcli.environment import Environment
from chatcli.generation import Event, Finished, Progress, Reasoning, Text, ToolCalled
from chatcli.render.progress import ProgressLine
from chatcli.render.reasoning import PlainThoughts, Thoughts
from chatcli.render.rows import DIM, Span, encoded
from chatcli.render.tail import Tail, undisturbed

FRAME_SECONDS = 0.08
SHARE_OF_TIME = 0.02
"""Painting takes no more of the time than this: where a frame costs more, the next one comes later."""
LONGEST_FRAME_SECONDS = 0.5


def way_to_show(environment: Environment) -> Literal["markdown", "raw"]:
    """The one decision: Markdown for a person at a terminal that can erase, else the text as it comes."""
    return "markdown" if environment.stdout_is_terminal and environment.can_erase and not environment.plain else "raw"


def show_answer(events: Iterable[Event], environment: Environment, *, unfold_hint: str = "") -> Finished | None:
    """Show a reply as it comes and end it with a newline; returns how it ended.

    Where it is cut, by an error or by Ctrl-C, all that came stays on the screen. `unfold_hint` says how a person
    can see folded reasoning.
    """
    show = _Show(environment, unfold_hint)
    finished: Finished | None = None
    try:
        for event in events:
            if isinstance(event, Finished):
                finished = event
            else:
                show.event(event)
    finally:
        show.end()
    return finished


def dim(text: str, environment: Environment) -> str:
    """`text` in faint letters, where colour is welcome."""
    return encoded((Span(text, DIM),), color=environment.color)


class Answer(Protocol):
    """A way to show the answer's text."""

    def feed(self, text: str) -> None:
        """Take a piece."""

    def paint(self) -> None:
        """Show what was not shown yet."""

    def end(self) -> None:
        """Show all, and end the line."""


class RawAnswer:
    """The text as it comes; it ends with just one newline."""

    def __init__(self, environment: Environment) -> None:
        self._out = environment.stdout
        self._newlines = ""  # at the end of what came so far: written when more comes
        self._written = False

    def feed(self, text: str) -> None:
        """Write a piece."""
        text = self._newlines + text
        shown = text.rstrip("\n")
        self._newlines = text[len(shown) :]
        self._written = self._written or bool(shown)
        self._out.write(shown)
        self._out.flush()

    def paint(self) -> None:
        """Nothing waits to be shown."""

    def end(self) -> None:
        """End the line, if there is one."""
        if self._written:
            self._out.write("\n")
        self._out.flush()


class MarkdownAnswer:
    """Rendered Markdown, painted at the end of the scrollback."""

    def __init__(self, environment: Environment) -> None:
        from chatcli.render.stream import MarkdownStream

        self._stream = MarkdownStream(color=environment.color)
        self._tail = Tail(environment, environment.stdout)

    def feed(self, text: str) -> None:
        """Take a piece."""
        self._stream.feed(text)

    def paint(self) -> None:
        """Bring the screen up to date."""
        self._tail.paint(*self._stream.rows(self._tail.columns))

    def end(self) -> None:
        """Print the rest for good."""
        finished, _ = self._stream.rows(self._tail.columns)
        self._tail.paint([*finished, *self._stream.end(self._tail.columns)], ())


class _Show:
    """What is on the screen of a reply: progress, then reasoning, then the answer."""

    def __init__(self, environment: Environment, unfold_hint: str) -> None:
        self._environment = environment
        self._way = way_to_show(environment)
        self._folds = environment.can_erase and not environment.plain
        self._hint = unfold_hint
        self._progress = ProgressLine(environment)
        self._thoughts: Thoughts | PlainThoughts | None = None
        self._answer: Answer | None = None
        self._notes: list[Progress] = []
        self._next_frame = 0.0

    def event(self, event: Progress | Reasoning | Text | ToolCalled) -> None:
        """Show an event, or keep it until a frame is due."""
        match event:
            case Progress() if not self._answer and not self._thoughts:
                self._progress.show(event)
            case Progress(note=note) if note:
                self._notes.append(event)  # now it would tear the line that is being written
            case Progress() if self._thoughts:
                self._thoughts.feed("")
            case Reasoning(piece) if self._environment.stderr_is_terminal:
                self._think(piece)
            case Text(piece):
                self._say(piece)
        self._paint_in_time()

    def _think(self, piece: str) -> None:
        self._progress.clear()
        if not self._thoughts:
            made = Thoughts(self._environment, self._hint) if self._folds else PlainThoughts(self._environment)
            self._thoughts = made
        self._thoughts.feed(piece)

    def _say(self, piece: str) -> None:
        self._progress.clear()
        self._end_thoughts()
        if not self._answer:
            self._answer = (MarkdownAnswer if self._way == "markdown" else RawAnswer)(self._environment)
        self._answer.feed(piece)

    def _paint_in_time(self) -> None:
        shown = self._answer or self._thoughts
        begun = self._environment.monotonic()
        if not shown or begun < self._next_frame:
            return
        with undisturbed():
            shown.paint()
        now = self._environment.monotonic()
        wait = min((now - begun) / SHARE_OF_TIME, LONGEST_FRAME_SECONDS)
        self._next_frame = now + max(wait, FRAME_SECONDS)

    def _end_thoughts(self) -> None:
        thoughts, self._thoughts = self._thoughts, None
        if thoughts:
            with undisturbed():
                thoughts.end()

    def end(self) -> None:
        """Leave everything whole, and the cursor at the beginning of a line."""
        self._progress.clear()
        self._end_thoughts()
        if self._answer:
            with undisturbed():
                self._answer.end()
        else:
            self._environment.stdout.flush()
        for note in self._notes:
            self._progress.show(note)
