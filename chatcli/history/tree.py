"""The messages of one conversation as they hang together: the way to its head, its branches.

Functions on an open connection; the transaction is the caller's. Knows no index and no other conversation.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from chatcli.conversation import Attachment
from chatcli.history.records import Branch, StoredMessage
from chatcli.history.titles import title_of

# A parent is older than its child; the comparison ends the walk in any file, however damaged.
_WALK = """
    WITH RECURSIVE path (id, parent_id) AS (
        SELECT id, parent_id FROM messages WHERE id = ?
        UNION ALL
        SELECT m.id, m.parent_id FROM messages m JOIN path ON m.id = path.parent_id AND m.id < path.id
    )
"""
_TURNS = f"{_WALK} SELECT count(*) FROM messages WHERE id IN (SELECT id FROM path) AND role = 'user'"


def whole(column: str) -> str:
    """SQL for all of a message's `column`, text or reasoning, with the pieces that are not folded in yet."""
    return (
        f"messages.{column} || coalesce((SELECT group_concat({column}, '') FROM"
        f" (SELECT {column} FROM pieces WHERE message_id = messages.id ORDER BY id)), '')"
    )


_COLUMNS = (
    f"id, role, {whole('text')}, {whole('reasoning')}, finish_reason, prompt_tokens, completion_tokens, model,"
    " created_at, parent_id, revision, settings, cached_tokens, seconds_to_first, seconds"
)


def path(database: sqlite3.Connection, head: int | None) -> list[StoredMessage]:
    """The messages from the first to `head`.

    A reply at the end that was broken off before its first word is left out, so that the path ends with
    the question to ask again.
    """
    query = f"{_WALK} SELECT {_COLUMNS} FROM messages WHERE id IN (SELECT id FROM path) ORDER BY id"
    messages = _messages(database, database.execute(query, (head,)))
    if messages and _is_empty_reply(messages[-1]):
        messages.pop()
    return messages


def everything(database: sqlite3.Connection, conversation_id: str) -> list[StoredMessage]:
    """Every message that says something, parents before children."""
    query = f"SELECT {_COLUMNS} FROM messages WHERE conversation_id = ? ORDER BY id"
    return [
        each for each in _messages(database, database.execute(query, (conversation_id,))) if not _is_empty_reply(each)
    ]


def turns(database: sqlite3.Connection, head: int | None) -> int:
    """How many questions are on the way to `head`."""
    count: int = database.execute(_TURNS, (head,)).fetchone()[0]
    return count


def branches(messages: Iterable[StoredMessage], current: StoredMessage | None) -> tuple[Branch, ...]:
    """A branch for each message that nothing follows, and for the `current` end if that is none of them."""
    known = {each.id: each for each in messages}
    parents = {each.parent_id for each in known.values()}
    ends = [each for each in known.values() if each.id not in parents or (current and each.id == current.id)]
    return tuple(_branch(known, end, current is not None and end.id == current.id) for end in ends)


def _branch(known: dict[int, StoredMessage], end: StoredMessage, current: bool) -> Branch:
    way = [end]
    while (parent := known.get(way[-1].parent_id or 0)) and parent.id < way[-1].id:
        way.append(parent)
    answer = next((each for each in way if each.role == "assistant"), None)
    shown = end if end.role == "user" or answer is None else answer
    return Branch(
        end.id, sum(each.role == "user" for each in way), title_of(shown.text or shown.reasoning),
        answer.model if answer else "", end.created_at, current,
    )  # fmt: skip


def _messages(database: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[StoredMessage]:
    messages = []
    for row in rows:
        *before, settings, cached, to_first, seconds = row
        attached = database.execute(
            "SELECT name, size, sha256, text, media, coalesce(data, x'') FROM attachments"
            " LEFT JOIN pictures USING (sha256) WHERE message_id = ? ORDER BY id",
            (row[0],),
        )
        files = tuple(Attachment(*each) for each in attached)
        said = json.loads(settings) if settings else {}
        messages.append(StoredMessage(*(*before, said, cached, to_first, seconds, files)))
    return messages


def _is_empty_reply(message: StoredMessage) -> bool:
    ended = message.finish_reason in ("stop", "length")
    return message.role == "assistant" and not (ended or message.text or message.reasoning)
