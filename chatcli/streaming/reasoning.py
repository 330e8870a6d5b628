"""Tells what a model thinks aloud, `<think>...</think>`, from what it answers.

Knows two or three tags and white space, no model and no token.
"""

from __future__ import annotations

from typing import Literal

from chatcli.generation import Reasoning, Text

State = Literal["begin", "reasoning", "after", "answer"]


class ReasoningSplitter:
    """Splits a reply into `Reasoning` and `Text`; how it is cut into pieces never matters.

    Only the very beginning of a reply, after white space at most, can open a reasoning part; a tag further
    on is text, since models write about tags too. `inside` says that the prompt ended with the opening tag;
    a model that repeats the tag is understood. White space at the edges of the reasoning and before the
    answer is dropped. A reasoning part that is never closed is all reasoning.

    Families that open the answer with a tag, too, as gpt-oss does with `<|channel|>final<|message|>`, name it
    as `answer_tag`: it is dropped, and until it comes a further reasoning part may open.
    """

    def __init__(
        self, open_tag: str = "<think>", close_tag: str = "</think>", answer_tag: str = "", *, inside: bool = False
    ) -> None:
        self._open = open_tag
        self._close = close_tag
        self._answer = answer_tag
        self._inside = inside
        self._state: State = "begin"
        self._held = ""
        self._blank = True  # nothing of the reasoning was given out yet

    def push(self, text: str) -> list[Text | Reasoning]:
        """The events that are certain now; none of them is empty."""
        self._held += text
        events: list[Text | Reasoning] = []
        before = None
        while before != (self._state, len(self._held)):
            before = (self._state, len(self._held))
            events += self._step()
        return events

    def _step(self) -> list[Text | Reasoning]:
        if self._state == "begin":
            self._begin()
        elif self._state == "reasoning":
            return self._reason()
        elif self._state == "after":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        elif self._held:
            return [Text(self._take(len(self._held)))]
        return []

    def flush(self) -> list[Text | Reasoning]:
        """What was held back, at the end of the reply."""
        held = self._take(len(self._held))
        if self._state == "reasoning" or (self._state == "begin" and self._inside):
            thought = held.rstrip() if not self._blank else held.strip()
            return [Reasoning(thought)] if thought else []
        return [Text(held)] if held and self._state != "after" else []

    def _begin(self) -> None:
        start = self._held.lstrip()
        if start.startswith(self._open):
            self._held, self._state, self._blank = start[len(self._open) :], "reasoning", True
        elif self._answer and start.startswith(self._answer):
            self._held, self._state = start[len(self._answer) :], "after"
        elif not self._open.startswith(start) and not self._answer.startswith(start):
            self._state = "reasoning" if self._inside else "answer"

    def _reason(self) -> list[Text | Reasoning]:
        if self._blank:
            self._held = self._held.lstrip()
        end = self._held.find(self._close)
        if end >= 0:
            thought = self._held[:end].rstrip()
            self._held = self._held[end + len(self._close) :]
            self._state, self._inside = "begin" if self._answer else "after", False
        else:
            thought = self._take(self._certain())
        self._blank = self._blank and not thought
        return [Reasoning(thought)] if thought else []

    def _certain(self) -> int:
        """Length of what is held up to a possible beginning of the closing tag and the white space before it."""
        end = len(self._held)
        for length in range(min(len(self._close) - 1, end), 0, -1):
            if self._close.startswith(self._held[end - length :]):
                end -= length
                break
        return len(self._held[:end].rstrip())

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken
