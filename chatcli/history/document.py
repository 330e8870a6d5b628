"""Our own JSON of a conversation, written and read.

It holds all that the history knows of it. `messages` are those on the way to its head, in the form of
OpenAI's chat API (`role`, `content`), the system message first; `others` were taken back or belong to other
branches; `id` and `parent` hang them together. Times are ISO 8601, UTC. What is unknown is left out. Knows
values only.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, get_args

from chatcli.conversation import Attachment
from chatcli.generation import FinishReason
from chatcli.history.records import StoredConversation, StoredMessage
from chatcli.history.rows import ID_ALPHABET, ID_LENGTH
from chatcli.images import MOST_BYTES, media_type

FORMAT_VERSION = 1
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "seconds_to_first", "seconds")


def document(stored: StoredConversation) -> dict[str, Any]:
    """A conversation as JSON."""
    system = [{"role": "system", "content": stored.system}] if stored.system else []
    whole = {
        "chatcli": FORMAT_VERSION,
        "id": stored.id,
        "title": stored.title,
        "model": stored.model,
        "revision": stored.revision,
        "created_at": moment(stored.created_at),
        "updated_at": moment(stored.updated_at),
        "messages": system + [_message(each) for each in stored.messages],
        "others": [_message(each) for each in stored.others],
    }
    return _without_unknown(whole)


def from_document(item: Mapping[str, Any], now: float) -> StoredConversation | None:
    """The conversation that `item` describes; None if it is no such description, or of a later chatcli's.

    Parts that are wrong, as a hand may make them, count as unknown; a time that is unknown is `now`.
    """
    if item.get("chatcli") != FORMAT_VERSION or not isinstance(item.get("messages"), list):
        return None
    created = _seconds(item.get("created_at"), now)
    system = next((_text(each, "content") for each in _spoken(item, "messages") if each["role"] == "system"), "")
    messages, others = (
        [_read_message(each, created) for each in _spoken(item, part) if each["role"] != "system"]
        for part in ("messages", "others")
    )
    if len({each.id for each in (*messages, *others)} - {0}) < len(messages) + len(others):
        messages, others = _in_a_row(messages), []  # what belongs to what is lost
    identity = _text(item, "id")
    is_ours = len(identity) == ID_LENGTH and set(identity) <= set(ID_ALPHABET)
    return StoredConversation(
        identity if is_ours else "", _text(item, "title"), _text(item, "model"), _text(item, "revision"), system,
        created, _seconds(item.get("updated_at"), created), tuple(messages), tuple(others),
    )  # fmt: skip


def _spoken(item: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    return [each for each in _dicts(item.get(part)) if each.get("role") in ("system", "user", "assistant")]


def _read_message(item: Mapping[str, Any], now: float) -> StoredMessage:
    finish = item.get("finish_reason")
    settings = item.get("settings")
    attached = item.get("attachments")
    numbers = {name: item[name] for name in _COUNTS if _is_number(item.get(name))}
    return StoredMessage(
        _row(item.get("id")) or 0, item["role"], _text(item, "content"), _text(item, "reasoning"),
        finish if finish in get_args(FinishReason) else None,
        model=_text(item, "model"), revision=_text(item, "revision"), parent_id=_row(item.get("parent")),
        created_at=_seconds(item.get("created_at"), now), settings=settings if isinstance(settings, dict) else {},
        attachments=tuple(map(_attachment, _dicts(attached))), **numbers,
    )  # fmt: skip


def _attachment(item: Mapping[str, Any]) -> Attachment:
    """A file, and a picture where its data are what its hash says."""
    said = Attachment(_text(item, "name"), _row(item.get("size")) or 0, _text(item, "sha256"), _text(item, "text"))
    try:
        data = b64decode(_text(item, "data"), validate=True)
    except ValueError:
        return said
    media = media_type(data)
    is_whole = bool(media) and len(data) <= MOST_BYTES and sha256(data).hexdigest() == said.sha256
    return replace(said, media=media, data=data) if is_whole else said


def _in_a_row(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    return [replace(each, id=row, parent_id=row - 1 or None) for row, each in enumerate(messages, 1)]


def _dicts(items: object) -> list[Mapping[str, Any]]:
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


def _text(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""


def _row(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _seconds(value: object, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return otherwise


def _message(message: StoredMessage) -> dict[str, Any]:
    whole = {
        "role": message.role,
        "content": message.text,
        "reasoning": message.reasoning,
        "id": message.id,
        "parent": message.parent_id,
        "created_at": moment(message.created_at),
        "model": message.model,
        "revision": message.revision,
        "settings": dict(message.settings),
        "finish_reason": message.finish_reason,
        "prompt_tokens": message.prompt_tokens,
        "completion_tokens": message.completion_tokens,
        "cached_tokens": message.cached_tokens,
        "seconds_to_first": message.seconds_to_first,
        "seconds": message.seconds,
        "attachments": [_file(each) for each in message.attachments],
    }
    return {"role": message.role, "content": message.text, **_without_unknown(whole)}


def _file(attached: Attachment) -> dict[str, Any]:
    """A file; of a picture all of it, in base64."""
    whole = {
        "name": attached.name,
        "size": attached.size,
        "sha256": attached.sha256,
        "text": attached.text,
        "media": attached.media,
        "data": b64encode(attached.data).decode("ascii"),
    }
    return _without_unknown(whole)


def _without_unknown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {}) or name == "messages"}


def moment(seconds: float) -> str:
    """A time as the documents write it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
