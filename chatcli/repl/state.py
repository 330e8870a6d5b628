"""What a slash command may touch: the session, the place to print, the way to another model.

It knows sentences and columns; it knows no key and no prompt_toolkit.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chatcli.conversation import Attachment
from chatcli.environment import Environment
from chatcli.generation import Engine
from chatcli.render.answer import dim
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

OpenModel = Callable[[str], Engine]
"""Begins to open the model that a person calls so; does not wait for it."""


@dataclass(frozen=True, slots=True)
class Chat:
    """The chat as commands see it; without `open_model` there is but the one model.

    `attached` are files that go with the next message.
    """

    session: Session
    environment: Environment
    open_model: OpenModel | None = None
    attached: list[Attachment] = field(default_factory=list)

    def print(self, text: str = "") -> None:
        """A line for the person; whatever it holds, it cannot act on the terminal."""
        print(sanitize(text), file=self.environment.stdout, flush=True)

    def list(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what belongs to them: beside each other where there is room, else below each other."""
        width = line_width()
        margin = max(len(name) for name, _ in rows) + 2
        beside = width >= margin + 30
        indent = " " * (margin if beside else 2)
        for name, text in rows:
            filled = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
            self.print(name.ljust(margin) + filled[margin:] if beside else f"{name}\n{filled}")

    def prose(self, text: str) -> None:
        """Sentences, broken between words."""
        self.print(wrapped(text))

    def aside(self, text: str) -> None:
        """A line about the chat rather than of it: dim where there is colour."""
        print(dim(sanitize(text), self.environment), file=self.environment.stdout, flush=True)


def line_width() -> int:
    """Columns for our own sentences; the last is left free, for some terminals wrap in it."""
    return max(shutil.get_terminal_size().columns - 1, 12)


def wrapped(text: str) -> str:
    """One sentence or two, broken between words to the terminal's width."""
    return textwrap.fill(text, line_width(), break_long_words=False, break_on_hyphens=False)
