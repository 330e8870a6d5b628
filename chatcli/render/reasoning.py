"""What a model thinks aloud: a few dim rows while it streams, one line with its length when it ends.

Only people see it, on standard error, so that a pipe gets the answer alone. Knows no model and no tags.
"""

from __future__ import annotations

from chatcli.environment import Environment
from chatcli.render.rows import DIM, Span, encoded, wrap
from chatcli.render.tail import Tail

HIGHEST = 6
"""Rows of the window; less on a low screen."""
KEPT_CHARACTERS = 4000
"""More than any window shows, so that wrapping costs the same however long the thoughts are."""


class Thoughts:
    """Shows reasoning in a window of few rows. `hint` says how to unfold it, where there is a way."""

    def __init__(self, environment: Environment, hint: str) -> None:
        self._environment = environment
        self._hint = hint
        self._begun = environment.monotonic()
        self._tokens = 0
        self._text = ""
        self._tail = Tail(environment, environment.stderr, highest=_height(environment))

    def feed(self, text: str) -> None:
        """Add a piece; a token without text counts too."""
        self._tokens += 1
        self._text = (self._text + text)[-KEPT_CHARACTERS:]

    def paint(self) -> None:
        """Show the last rows."""
        self._tail.paint((), wrap((Span(self._text.rstrip(), DIM),), self._tail.columns - 1))

    def end(self) -> None:
        """Fold it to one line."""
        folded = folded_line(self._environment.monotonic() - self._begun, self._tokens, self._hint)
        self._tail.paint([*wrap((Span(folded, DIM),), self._tail.columns - 1), ()], ())


class PlainThoughts:
    """Writes reasoning as it comes, dim where colour is welcome, and leaves it."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def feed(self, text: str) -> None:
        """Write a piece."""
        if text:
            self._environment.stderr.write(encoded((Span(text, DIM),), color=self._environment.color))
            self._environment.stderr.flush()

    def paint(self) -> None:
        """Nothing waits to be shown."""

    def end(self) -> None:
        """Set it apart from the answer."""
        self._environment.stderr.write("\n\n")
        self._environment.stderr.flush()


def folded_line(seconds: float, tokens: int, hint: str) -> str:
    """What is left of reasoning: "thought for 4.2 s, 312 tokens (/think shows it)"."""
    took = f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"thought for {took}, {tokens} token{'s' if tokens != 1 else ''}" + (f" ({hint})" if hint else "")


def _height(environment: Environment) -> int:
    return max(min(HIGHEST, environment.terminal_size().lines // 3), 1)
