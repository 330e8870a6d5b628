"""Conversations of other programs, and our own exports, read into plain values.

Three shapes, alone, in a JSON list or one a line: our own (see `document`); ShareGPT,
`{"conversations": [{"from": "human", "value": ...}]}`; OpenAI, `{"messages": [{"role", "content"}]}` or the bare
list of messages. What cannot be taken in is counted and said. Knows no database.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.conversation import Role
from chatcli.errors import UsageError
from chatcli.history.document import from_document
from chatcli.history.records import StoredConversation, StoredMessage

_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds: its conversations, and what of it was left out, such as "image", with how many."""

    conversations: tuple[StoredConversation, ...]
    skipped: Mapping[str, int]


def read_conversations(text: str, now: float) -> Reading:
    """Every conversation in `text`, which is JSON or JSON Lines; one without a time gets `now`, in seconds.

    Raises:
        UsageError: the text is neither.
    """
    skipped: Counter[str] = Counter()
    found = []
    for item in _items(text):
        conversation = _conversation(item, now, skipped)
        if conversation is None:
            skipped["entry that is no conversation"] += 1
        elif not conversation.messages and not conversation.others:
            skipped["conversation without a message"] += 1
        else:
            found.append(conversation)
    return Reading(tuple(found), dict(skipped))


def _items(text: str) -> list[Any]:
    text = text.removeprefix("\ufeff")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError):
            raise UsageError(f"The file is neither JSON nor JSON Lines: {error}.") from error
    return [whole] if isinstance(whole, dict) or _are_messages(whole) else whole if isinstance(whole, list) else []


def _are_messages(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(each, dict) and "role" in each for each in items)


def _conversation(item: Any, now: float, skipped: Counter[str]) -> StoredConversation | None:
    if isinstance(item, list):
        item = {"messages": item} if item and _are_messages(item) else None
    if not isinstance(item, dict):
        return None
    if "chatcli" in item:
        return from_document(item, now)
    said = item.get("messages", item.get("conversations"))
    if not isinstance(said, list):
        return None
    system, messages = _spoken(said, now, skipped)
    title, model = (value if isinstance(value := item.get(name), str) else "" for name in ("title", "model"))
    return StoredConversation("", title, model, "", system, now, now, messages)


def _spoken(said: Iterable[Any], now: float, skipped: Counter[str]) -> tuple[str, tuple[StoredMessage, ...]]:
    """The system message, and the others as question and answer in turn."""
    system: list[str] = []
    turns: list[tuple[Role, str, str]] = []
    for item in said:
        name = item.get("role", item.get("from")) if isinstance(item, dict) else None
        role = _ROLES.get(name.lower()) if isinstance(name, str) else None
        if role is None:
            skipped[f"message of {name}" if isinstance(name, str) else "message without a role"] += 1
            continue
        text = _text(item.get("content", item.get("value")), skipped)
        reasoning = item.get("reasoning_content") or item.get("reasoning")
        reasoning = reasoning if isinstance(reasoning, str) else ""
        if role == "system":
            system.append(text)
        elif role == "assistant" and not turns:
            skipped["answer before the first question"] += 1
        elif not text and not reasoning:
            skipped["empty message"] += 1
        elif turns and turns[-1][0] == role:  # two in a row by one side are one
            turns[-1] = (role, _joined(turns[-1][1], text), _joined(turns[-1][2], reasoning))
        else:
            turns.append((role, text, reasoning))
    messages = tuple(
        StoredMessage(row, *turn, "stop" if turn[0] == "assistant" else None, parent_id=row - 1 or None, created_at=now)
        for row, turn in enumerate(turns, 1)
    )
    return "\n\n".join(text for text in system if text), messages


def _text(content: Any, skipped: Counter[str]) -> str:
    """The text of a message, which OpenAI's API may give as a list of parts."""
    if isinstance(content, str):
        return content
    parts = []
    for part in content if isinstance(content, list) else []:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            parts.append(text)
        else:
            kind = part.get("type") if isinstance(part, dict) else None
            skipped[kind if isinstance(kind, str) else "part that is no text"] += 1
    return "\n\n".join(parts)


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
