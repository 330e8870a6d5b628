"""Long pasted texts, each shown as one line such as [pasted 214 lines] and sent whole.

It knows texts; it knows no key and no terminal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_LINES = 20
MOST_CHARACTERS = 5000
"""What is longer stands as one line in the input, which would else be slow and hide the talk."""

_LABEL = re.compile(r"\[pasted [\d,]+ (?:lines|characters)(?: #\d+)?\]")
_BLOCK = '"""'


@dataclass(frozen=True, slots=True)
class Typed:
    """A message: its whole `text`, and how it is `shown`.

    `own` is what of it was typed, rather than pasted or piped in; only there does @ name files. What is
    `literal` is no command, whatever it begins with.
    """

    text: str
    shown: str
    own: str
    literal: bool = False


class Pastes:
    """The long texts that were pasted in this chat, by the line that stands for each."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def fold(self, pasted: str) -> str:
        """What stands for a pasted text: a line, or the text itself where it is short."""
        lines = _lines(pasted)
        if lines <= MOST_LINES and len(pasted) <= MOST_CHARACTERS:
            return pasted
        counted = f"{lines:,} lines" if lines > 1 else f"{len(pasted):,} characters"
        label, number = f"[pasted {counted}]", 1
        while self._texts.get(label, pasted) != pasted:
            number += 1
            label = f"[pasted {counted} #{number}]"
        self._texts[label] = pasted
        return label

    def fold_again(self, text: str) -> str:
        """A whole text with a line for each text pasted before, or one for all of it where it is still too long."""
        for label, pasted in self._texts.items():
            text = text.replace(pasted, label)
        return text if len(text) <= MOST_CHARACTERS else self.fold(text)

    def whole(self, shown: str) -> str:
        """What is meant by what is shown."""
        return _LABEL.sub(lambda label: self._texts.get(label[0], label[0]), shown)

    def typed(self, shown: str) -> Typed:
        """The message that is shown so; a block between lines of three quotes is what stands in it."""
        inner = _block(shown)
        meant = shown if inner is None else inner
        own = _LABEL.sub(lambda label: " " if label[0] in self._texts else label[0], meant)
        # A pasted text is not taken for a command, even at the beginning.
        literal = inner is not None or not meant.startswith(own[:1])
        return Typed(self.whole(meant), shown, own, literal)

    def label_before(self, text: str) -> str:
        """The label that a text ends with, else empty."""
        return next((label for label in self._texts if text.endswith(label)), "")


def piped(given: str, prompt: str) -> Typed:
    """The first message of a chat that gets `given` through a pipe, `prompt` on its command line, or both."""
    given = given.strip("\n")
    text = "\n\n".join(part for part in (given if given.strip() else "", prompt) if part)
    lines = _lines(given)
    label = f"[piped {lines:,} {'line' if lines == 1 else 'lines'}]" if given.strip() else ""
    return Typed(text, " ".join(part for part in (label, prompt) if part), prompt, literal=True)


def in_block(text: str) -> bool:
    """Whether a text begins a block, with a line of three quotes, and has not closed it with another."""
    first, *others = text.split("\n", 1)
    return first.strip() == _BLOCK and not (others and any(line.strip() == _BLOCK for line in others[0].split("\n")))


def _block(text: str) -> str | None:
    """What stands between a first and a last line of three quotes; None where these are not there."""
    lines = text.rstrip().split("\n")
    if len(lines) > 1 and lines[0].strip() == _BLOCK == lines[-1].strip():
        return "\n".join(lines[1:-1])
    return None


def _lines(text: str) -> int:
    return text.rstrip("\n").count("\n") + 1
