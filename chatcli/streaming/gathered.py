"""What came of one reply so far: its pieces, its numbers and how it ended.

Knows events and a clock. A stream that was cut short has no `Finished`; its counts are those that its
`Progress` told.
"""

from __future__ import annotations

from collections.abc import Callable

from chatcli.conversation import Message, ToolCall
from chatcli.generation import Event, Finished, FinishReason, Progress, Reasoning, Text, ToolCalled


class Gathered:
    """Takes every event of a stream with `add`.

    `began` is the message that the stream goes on with, empty for a new reply.
    """

    def __init__(self, monotonic: Callable[[], float], began: Message | None = None) -> None:
        self._began = began or Message("assistant", "")
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._finished: Finished | None = None
        self._cut: FinishReason = "error"
        self._prompt = self._cached = self._made = 0
        self._clock = monotonic
        self._begun, self._first, self._last = monotonic(), 0.0, 0.0

    def add(self, event: Event) -> None:
        """Note what an event tells."""
        match event:
            case Text(piece):
                self._text.append(piece)
            case Reasoning(piece):
                self._reasoning.append(piece)
            case ToolCalled(call):
                self._calls.append(call)
            case Finished():
                self._finished = event
            case Progress("reading", done, total) if total and not self._prompt:
                self._prompt, self._cached = total, done
            case Progress("writing", done) if done:
                self._made = done
                self._last = self._clock()
                self._first = self._first or self._last

    def cancelled(self) -> None:
        """The person, not the engine, ends the stream."""
        self._cut = "cancelled"

    @property
    def says_something(self) -> bool:
        """Whether a piece came, or the engine came to an end without one: else there is no reply to keep."""
        return bool(self._text or self._reasoning or self._calls) or self.finished.reason in ("stop", "length")

    @property
    def message(self) -> Message:
        """The whole reply."""
        began = self._began
        text, reasoning = began.text + "".join(self._text), began.reasoning + "".join(self._reasoning)
        return Message("assistant", text, reasoning, calls=(*began.calls, *self._calls))

    @property
    def finished(self) -> Finished:
        """How the stream ended, or what is known of one that was cut short."""
        if self._finished:
            return self._finished
        first = self._first - self._begun if self._first else 0.0
        return Finished(self._cut, self._prompt, self._made, self._cached, first, self._last - self._first)
