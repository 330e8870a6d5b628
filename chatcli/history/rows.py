"""Conversations and messages into the tables and out of them, a row or a whole tree at a time.

Functions on an open connection; the transaction is the caller's. Knows no clock.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from chatcli.conversation import Attachment, Role
from chatcli.history import search
from chatcli.history.records import StoredConversation, StoredMessage
from chatcli.history.titles import title_of

ID_LENGTH = 12
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: nothing to misread; 32, so that bytes are fair


def new_id() -> str:
    """An id for a conversation: random rather than sortable, for ids that begin with the time share their beginning."""
    return "".join(ID_ALPHABET[byte % len(ID_ALPHABET)] for byte in os.urandom(ID_LENGTH))


def clean(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 and so SQLite cannot hold."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def add_message(
    database: sqlite3.Connection, conversation_id: str, parent: int | None, role: Role, text: str, now: float
) -> int:
    """Add a message below `parent` and move the head to it; returns its row."""
    row = database.execute(
        "INSERT INTO messages (conversation_id, parent_id, role, text, created_at) VALUES (?, ?, ?, ?, ?)",
        (conversation_id, parent, role, clean(text), now),
    ).lastrowid
    assert row is not None
    database.execute("UPDATE conversations SET head = ?, updated_at = ? WHERE id = ?", (row, now, conversation_id))
    return row


def set_maker(
    database: sqlite3.Connection, message_id: int, model: str, revision: str, settings: Mapping[str, Any]
) -> None:
    """Note what makes a reply; its conversation then has the same model."""
    made_by = (clean(model), clean(revision))
    said = clean(json.dumps(settings, ensure_ascii=False)) if settings else ""
    database.execute(
        "UPDATE messages SET model = ?, revision = ?, settings = ? WHERE id = ?", (*made_by, said, message_id)
    )
    database.execute(
        "UPDATE conversations SET model = ?, revision = ?"
        " WHERE id = (SELECT conversation_id FROM messages WHERE id = ?)",
        (*made_by, message_id),
    )


def attach(database: sqlite3.Connection, message_id: int, attachments: Sequence[Attachment]) -> None:
    """Note the files that a question brought along; pictures are kept as they are."""
    database.executemany(
        "INSERT INTO attachments (message_id, name, size, sha256, text, media) VALUES (?, ?, ?, ?, ?, ?)",
        [(message_id, clean(each.name), each.size, each.sha256, clean(each.text), each.media) for each in attachments],
    )
    database.executemany(
        "INSERT OR IGNORE INTO pictures (sha256, data) VALUES (?, ?)",
        [(each.sha256, each.data) for each in attachments if each.data],
    )


def add_tree(database: sqlite3.Connection, imported: StoredConversation) -> str:
    """Add a conversation with all its messages and put them into the index; returns its id.

    It keeps its id; one without gets a new id and a fingerprint. Empty where it is there already.
    """
    fingerprint = None if imported.id else _fingerprint(imported)
    known = database.execute(
        "SELECT 1 FROM conversations WHERE id = ? OR fingerprint = ?", (imported.id, fingerprint)
    ).fetchone()
    if known:
        return ""
    messages = sorted((*imported.messages, *imported.others), key=lambda each: each.id)
    first = next((each.text for each in messages if each.role == "user"), "")
    title = imported.title or title_of(first)
    conversation_id = imported.id or new_id()
    database.execute(
        "INSERT INTO conversations"
        " (id, title, model, revision, system, created_at, updated_at, fingerprint, named)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            conversation_id, clean(title), clean(imported.model), clean(imported.revision), clean(imported.system),
            imported.created_at, imported.updated_at, fingerprint, title != title_of(first),
        ),
    )  # fmt: skip
    rows: dict[int | None, int] = {}
    for each in messages:
        rows[each.id] = _add_whole(database, conversation_id, rows.get(each.parent_id), each)
    head = rows[imported.messages[-1].id] if imported.messages else None
    database.execute("UPDATE conversations SET head = ? WHERE id = ?", (head, conversation_id))
    return conversation_id


def remove(database: sqlite3.Connection, conversation_id: str) -> bool:
    """Take a conversation out, with all that belongs to it; whether it was there."""
    of_it = "(SELECT id FROM messages WHERE conversation_id = ?)"
    for (message_id,) in database.execute(of_it[1:-1], (conversation_id,)).fetchall():
        search.take(database, message_id)
    database.execute("UPDATE conversations SET head = NULL WHERE id = ?", (conversation_id,))
    database.execute(f"DELETE FROM pieces WHERE message_id IN {of_it}", (conversation_id,))
    shown = f"SELECT DISTINCT sha256 FROM attachments WHERE message_id IN {of_it} AND media <> ''"
    pictures = database.execute(shown, (conversation_id,)).fetchall()
    database.execute(f"DELETE FROM attachments WHERE message_id IN {of_it}", (conversation_id,))
    database.executemany(
        "DELETE FROM pictures WHERE sha256 = ?1"
        " AND NOT EXISTS (SELECT 1 FROM attachments WHERE sha256 = ?1 AND media <> '')",
        pictures,
    )
    database.execute("DELETE FROM messages WHERE conversation_id = ?", (conversation_id,))
    return database.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,)).rowcount > 0


def _add_whole(database: sqlite3.Connection, conversation_id: str, parent: int | None, message: StoredMessage) -> int:
    row = database.execute(
        "INSERT INTO messages (conversation_id, parent_id, role, text, reasoning, finish_reason, prompt_tokens,"
        " completion_tokens, model, created_at, revision, settings, cached_tokens, seconds_to_first, seconds)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            conversation_id, parent, message.role, clean(message.text), clean(message.reasoning),
            message.finish_reason, message.prompt_tokens, message.completion_tokens, clean(message.model),
            message.created_at, clean(message.revision),
            clean(json.dumps(message.settings, ensure_ascii=False)) if message.settings else "",
            message.cached_tokens, message.seconds_to_first, message.seconds,
        ),
    ).lastrowid  # fmt: skip
    assert row is not None
    attach(database, row, message.attachments)
    search.put(database, row)
    return row


def _fingerprint(conversation: StoredConversation) -> str:
    import hashlib

    said = [
        conversation.system,
        *([m.role, m.text, m.reasoning, *(each.sha256 for each in m.message.images)] for m in conversation.messages),
    ]
    return hashlib.sha256(clean(json.dumps(said)).encode()).hexdigest()
