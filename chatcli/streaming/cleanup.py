"""What a family's own code makes of a finished reply, done while the reply still streams.

Each step holds back what the next characters may still change, so where the stream is cut never matters and all
pieces together are what the step makes of the whole text. This module knows text, and no token and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Step(Protocol):
    """One change to a text that comes in pieces."""

    def push(self, text: str) -> str:
        """What is certain now."""
        ...

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        ...


class Stripped:
    """`text.strip()`."""

    def __init__(self) -> None:
        self._begun = False
        self._held = ""

    def push(self, text: str) -> str:
        """See `Step`."""
        text = self._held + text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        certain = text.rstrip()
        self._held = text[len(certain) :]
        return certain

    def flush(self) -> str:
        """White space at the end is dropped."""
        return ""


class Replaced:
    """`text.replace(old, new)`."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self._held = ""

    def push(self, text: str) -> str:
        """See `Step`."""
        *whole, rest = (self._held + text).split(self._old)
        unsure = next(
            (n for n in range(min(len(self._old) - 1, len(rest)), 0, -1) if self._old.startswith(rest[-n:])), 0
        )
        self._held = rest[len(rest) - unsure :]
        return self._new.join([*whole, rest[: len(rest) - unsure]])

    def flush(self) -> str:
        """See `Step`."""
        held, self._held = self._held, ""
        return held


class FullWidth:
    """Full-width punctuation for every ASCII mark that stands directly before or behind a Chinese character.

    Chinese characters are U+4E00 to U+9FFF, and a mark that has become full-width is none.
    """

    _WIDE: Mapping[str, str] = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}

    def __init__(self) -> None:
        self._before = ""
        self._held = ""  # a mark that the next character decides on

    def push(self, text: str) -> str:
        """See `Step`."""
        made = ""
        for character in text:
            if self._held:
                made += self._WIDE[self._held] if _is_chinese(character) else self._held
                self._held = ""
            if character not in self._WIDE:
                made += character
            elif _is_chinese(self._before):
                made += self._WIDE[character]
            else:
                self._held = character
            self._before = character
        return made

    def flush(self) -> str:
        """See `Step`."""
        held, self._held = self._held, ""
        return held


def _is_chinese(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


_SPACES = {f" {mark}": mark for mark in ".?!,"} | {" ' ": "'"} | {f" {t}": t for t in ("n't", "'m", "'s", "'ve", "'re")}
"""What transformers 4 cleaned up after a tokenizer, in its order."""
_TRAINED = ("[[训练时间]]", "2023年")
"""ChatGLM writes this where it would name the time of its training."""


def _chatglm2() -> list[Step]:
    return [Stripped(), Replaced(*_TRAINED)]


def _chatglm() -> list[Step]:
    return [*(Replaced(old, new) for old, new in _SPACES.items()), *_chatglm2(), FullWidth()]


CLEANUPS: Mapping[str, Callable[[], list[Step]]] = {"": list, "chatglm": _chatglm, "chatglm2": _chatglm2}
"""What a row of the table may name as its `cleanup`."""


class Cleanup:
    """The steps of one row, each fed with what the one before it gives."""

    def __init__(self, name: str) -> None:
        self._steps: Sequence[Step] = CLEANUPS[name]()

    def push(self, text: str) -> str:
        """What is certain now."""
        for step in self._steps:
            text = step.push(text)
        return text

    def flush(self) -> str:
        """What was held back, at the end of the reply."""
        text = ""
        for step in self._steps:
            text = step.push(text) + step.flush()
        return text
