"""What the history holds, as plain values: conversations, messages, attachments, branches, hits.

They are the same whether read from the database, from a file to import or from a chat that could not be
saved. Times are seconds since 1970 (UTC). Knows no SQL and no file format.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatcli.conversation import Conversation, Role
from chatcli.generation import FinishReason


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a question brought along; `size` in bytes, `text` empty where only the hash is kept."""

    name: str
    size: int
    sha256: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One node of the message tree; `finish_reason` is None for questions and for replies cut by a crash.

    `model`, `revision`, `settings` and the counts (tokens, and seconds as in `Finished`) say how a reply
    was made; they are empty or None for questions and where unknown.
    """

    id: int
    role: Role
    text: str
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    created_at: float = 0.0
    parent_id: int | None = None
    revision: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    cached_tokens: int | None = None
    seconds_to_first: float | None = None
    seconds: float | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation: the messages from the first to its head, and `others`, which are on no way to the head.

    `model` and `revision` are those of the latest reply.
    """

    id: str
    title: str
    model: str
    revision: str
    system: str
    created_at: float
    updated_at: float
    messages: tuple[StoredMessage, ...]
    others: tuple[StoredMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of the list of conversations; `turns` counts the questions that were not taken back."""

    id: str
    title: str
    model: str
    created_at: float
    updated_at: float
    turns: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through a conversation: its last message, and what tells it from the others.

    `words` are the first words of its last answer, or of its question where that has none.
    """

    head: int
    turns: int
    words: str
    model: str
    created_at: float
    current: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A conversation that was searched for, with the newest message that fits.

    `excerpt` is one line of it; `marks` are the places in it, as (start, end), that the query found.
    `message_id` is 0 and the excerpt the title where only the title fits.
    """

    conversation: Summary
    message_id: int
    role: Role
    excerpt: str
    marks: tuple[tuple[int, int], ...]


def unstored(conversation: Conversation, model: str, title: str, now: float | None = None) -> StoredConversation:
    """A talk that could not be saved, as if it had been, so that it can still be written to a file."""
    now = time.time() if now is None else now
    messages = tuple(
        StoredMessage(
            row, each.role, each.text, each.reasoning, model=model if each.role == "assistant" else "",
            created_at=now, parent_id=row - 1 or None,
        )
        for row, each in enumerate(conversation.spoken, 1)
    )  # fmt: skip
    return StoredConversation("", title, model, "", conversation.system, now, now, messages)
