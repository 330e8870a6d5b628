"""The full-text index: messages into it, out of it, and found in it.

Functions on an open connection; the transaction is the caller's. What a word is, `words` knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from chatcli.history.words import fts_query, pairs, spaced


def put(database: sqlite3.Connection, message_id: int) -> None:
    """Fold the pieces of a message into it and put it into the index, in place of what was there of it."""
    take(database, message_id)
    fold(database, message_id)
    text = _text(database, message_id)
    database.execute(
        "INSERT INTO words (rowid, spaced, pairs) VALUES (?, ?, ?)", (message_id, spaced(text), pairs(text))
    )
    database.execute("UPDATE messages SET indexed = 1 WHERE id = ?", (message_id,))


def take(database: sqlite3.Connection, message_id: int) -> None:
    """Take a message out of the index, if it is in it: before its text changes or goes."""
    row = database.execute("SELECT text FROM messages WHERE id = ? AND indexed = 1", (message_id,)).fetchone()
    if row:
        database.execute(
            "INSERT INTO words (words, rowid, spaced, pairs) VALUES ('delete', ?, ?, ?)",
            (message_id, spaced(row[0]), pairs(row[0])),
        )
        database.execute("UPDATE messages SET indexed = 0 WHERE id = ?", (message_id,))


def fold(database: sqlite3.Connection, message_id: int) -> None:
    """Make the pieces of a message its text."""
    rows = database.execute(
        "SELECT text, reasoning FROM pieces WHERE message_id = ? ORDER BY id", (message_id,)
    ).fetchall()
    if rows:
        database.execute(
            "UPDATE messages SET text = text || ?, reasoning = reasoning || ? WHERE id = ?",
            ("".join(row[0] for row in rows), "".join(row[1] for row in rows), message_id),
        )
        database.execute("DELETE FROM pieces WHERE message_id = ?", (message_id,))


def not_indexed(database: sqlite3.Connection, limit: int) -> list[int]:
    """Messages that are not in the index yet, or have pieces that are not, the oldest first."""
    rows = database.execute(
        "SELECT id FROM messages WHERE indexed = 0 UNION SELECT message_id FROM pieces ORDER BY 1 LIMIT ?", (limit,)
    ).fetchall()
    return [row[0] for row in rows]


def messages_with(database: sqlite3.Connection, query: str) -> Iterator[tuple[str, int]]:
    """Conversation and row of the messages that have every term of `query`, the newest first.

    They come as they are found: whoever has enough leaves the rest unread. A query without a letter or a
    digit, such as an emoji, is in no index and is looked for in every text.
    """
    terms = fts_query(query)
    if terms:
        return database.execute(
            "SELECT m.conversation_id, m.id FROM words JOIN messages m ON m.id = words.rowid"
            " WHERE words MATCH ? ORDER BY words.rowid DESC",
            (terms,),
        )
    return database.execute(
        "SELECT conversation_id, id FROM messages WHERE instr(text, ?) ORDER BY id DESC", (query.strip(),)
    )


def named(database: sqlite3.Connection, query: str) -> list[str]:
    """Conversations with a title that a person chose, and that has every term of `query`."""
    terms = query.casefold().split()
    rows = database.execute("SELECT id, title FROM conversations WHERE named = 1").fetchall()
    return [row[0] for row in rows if all(term in row[1].casefold() for term in terms)]


def _text(database: sqlite3.Connection, message_id: int) -> str:
    text: str = database.execute("SELECT text FROM messages WHERE id = ?", (message_id,)).fetchone()[0]
    return text
