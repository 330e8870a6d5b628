"""What was said: roles, messages, conversations, all plain values.

This module knows nothing of models, tokens, files or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said by one side; `reasoning` is what a model thought aloud before its `text`."""

    role: Role
    text: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order: at most one system message, first; then user and assistant in turn."""

    messages: tuple[Message, ...] = ()

    def add(self, message: Message) -> Conversation:
        """The conversation with one more message at its end."""
        return Conversation((*self.messages, message))

    @property
    def system(self) -> str:
        """The system message's text, or the empty string."""
        return self.messages[0].text if self.messages and self.messages[0].role == "system" else ""

    def with_system(self, text: str) -> Conversation:
        """The conversation under another system message; an empty text removes it."""
        head = (Message("system", text),) if text else ()
        return Conversation(head + self.spoken)

    @property
    def spoken(self) -> tuple[Message, ...]:
        """Every message but the system message."""
        return tuple(m for m in self.messages if m.role != "system")

    @property
    def unfinished(self) -> Message | None:
        """The reply at the end, which an engine goes on with; None where a question, or nothing, is at the end."""
        return self.messages[-1] if self.messages and self.messages[-1].role == "assistant" else None

    @property
    def exchanges(self) -> int:
        """How many questions were asked."""
        return sum(m.role == "user" for m in self.messages)

    def without_last_message(self) -> Conversation:
        """The conversation before its last message."""
        return Conversation(self.messages[:-1])

    def without_last_exchange(self) -> Conversation:
        """Cut from the last user message on; unchanged where nobody has asked anything."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "user":
                return Conversation(self.messages[:index])
        return self

    def without_first_exchange(self) -> Conversation:
        """Drop the oldest question with its answer; the system message stays."""
        users = [i for i, m in enumerate(self.messages) if m.role == "user"]
        end = users[1] if len(users) > 1 else len(self.messages)
        head = tuple(m for m in self.messages[:1] if m.role == "system")
        return replace(self, messages=head + self.messages[end:])
