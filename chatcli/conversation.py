"""What was said: roles, messages, conversations, all plain values.

This module knows nothing of models, tokens, files or terminals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a question brought along; `size` in bytes, `text` empty where only the hash is kept.

    A picture has a `media` type, such as "image/png", and the whole file as its `data`.
    """

    name: str
    size: int
    sha256: str = ""
    text: str = ""
    media: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def fenced(self) -> str:
        """The file as a model reads it: its name, and the text in a Markdown fence that nothing in it closes."""
        ticks = max((len(run) for run in re.findall("`{3,}", self.text)), default=2) + 1
        fence = "`" * ticks
        _, dot, ending = self.name.rpartition(".")
        language = ending if dot and ending.isalnum() else ""
        return f"{self.name}:\n{fence}{language}\n{self.text.rstrip(chr(10))}\n{fence}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask for; `parameters` is the JSON schema of its arguments, as text."""

    name: str
    description: str = ""
    parameters: str = "{}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a function called; `arguments` is a JSON object, as text."""

    id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said by one side; `reasoning` is what a model thought aloud before its `text`.

    An assistant's message may ask for `calls`; a tool's message answers the one whose id is `call`.
    """

    role: Role
    text: str
    reasoning: str = ""
    attachments: tuple[Attachment, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call: str = ""

    @property
    def spelled_out(self) -> Message:
        """The message as a model reads it: the attached files are part of the text, before what was said of them.

        Pictures stay beside it.
        """
        files = [each.fenced for each in self.attachments if each.text]
        return replace(self, text="\n\n".join((*files, self.text)), attachments=self.images) if files else self

    @property
    def images(self) -> tuple[Attachment, ...]:
        """The pictures that go with it."""
        return tuple(each for each in self.attachments if each.data)

    @property
    def without_images(self) -> Message:
        """The message for a model that reads text only."""
        return replace(self, attachments=tuple(each for each in self.attachments if not each.data))


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order: at most one system message, first; then user and assistant in turn.

    Where the model may use `tools`, an answer may ask for some, and what these said comes before the next.
    `tool_choice` is "auto", "none", "required" or the name of the one that must be asked for.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"

    def add(self, message: Message) -> Conversation:
        """The conversation with one more message at its end."""
        return replace(self, messages=(*self.messages, message))

    @property
    def system(self) -> str:
        """The system message's text, or the empty string."""
        return self.messages[0].text if self.messages and self.messages[0].role == "system" else ""

    def with_system(self, text: str) -> Conversation:
        """The conversation under another system message; an empty text removes it."""
        head = (Message("system", text),) if text else ()
        return replace(self, messages=head + self.spoken)

    @property
    def spoken(self) -> tuple[Message, ...]:
        """Every message but the system message."""
        return tuple(m for m in self.messages if m.role != "system")

    @property
    def unfinished(self) -> Message | None:
        """The reply at the end, which an engine goes on with; None where a question, or nothing, is at the end."""
        return self.messages[-1] if self.messages and self.messages[-1].role == "assistant" else None

    @property
    def spelled_out(self) -> Conversation:
        """The conversation as a model reads it, with the attached files in the text."""
        return replace(self, messages=tuple(message.spelled_out for message in self.messages))

    @property
    def images(self) -> tuple[Attachment, ...]:
        """Every picture in it, in the order in which they were shown."""
        return tuple(each for message in self.messages for each in message.images)

    @property
    def without_images(self) -> Conversation:
        """The conversation for a model that reads text only."""
        return replace(self, messages=tuple(message.without_images for message in self.messages))

    @property
    def exchanges(self) -> int:
        """How many questions were asked."""
        return sum(m.role == "user" for m in self.messages)

    def without_last_message(self) -> Conversation:
        """The conversation before its last message."""
        return replace(self, messages=self.messages[:-1])

    def without_last_exchange(self) -> Conversation:
        """Cut from the last user message on; unchanged where nobody has asked anything."""
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "user":
                return replace(self, messages=self.messages[:index])
        return self

    def without_first_exchange(self) -> Conversation:
        """Drop the oldest question with its answer; the system message stays."""
        users = [i for i, m in enumerate(self.messages) if m.role == "user"]
        end = users[1] if len(users) > 1 else len(self.messages)
        head = tuple(m for m in self.messages[:1] if m.role == "system")
        return replace(self, messages=head + self.messages[end:])
