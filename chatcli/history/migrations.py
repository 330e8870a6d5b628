"""How the database came to its present shape: an append-only list of SQL scripts.

The length of the list is the version, kept in `PRAGMA user_version`. A script that was released is never
edited; a change is one more script at the end. Knows tables, no conversation.
"""

from __future__ import annotations

import sqlite3

from chatcli.errors import HistoryError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Messages are a tree: an undone question and every answer to a retried one stay, off the path
        # that leads from `head` to the root. AUTOINCREMENT, so that a child is younger than its parent.
        """
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            revision TEXT NOT NULL,
            system TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            head INTEGER REFERENCES messages (id)
        )
        """,
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id TEXT NOT NULL REFERENCES conversations (id),
            parent_id INTEGER REFERENCES messages (id),
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            text TEXT NOT NULL,
            reasoning TEXT NOT NULL DEFAULT '',
            finish_reason TEXT,
            prompt_tokens INTEGER,
            completion_tokens INTEGER,
            model TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL
        )
        """,
        "CREATE INDEX messages_of_conversation ON messages (conversation_id)",
        "CREATE INDEX conversations_by_time ON conversations (updated_at)",
    ),
    (
        # How each reply was made; settings are a JSON object.
        "ALTER TABLE messages ADD COLUMN revision TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE messages ADD COLUMN settings TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE messages ADD COLUMN cached_tokens INTEGER",
        "ALTER TABLE messages ADD COLUMN seconds_to_first REAL",
        "ALTER TABLE messages ADD COLUMN seconds REAL",
        # What a reply is made of while it is streamed: adding a row costs the same however long the reply is.
        """
        CREATE TABLE pieces (
            id INTEGER PRIMARY KEY,
            message_id INTEGER NOT NULL REFERENCES messages (id),
            text TEXT NOT NULL,
            reasoning TEXT NOT NULL
        )
        """,
        "CREATE INDEX pieces_of_message ON pieces (message_id)",
        """
        CREATE TABLE attachments (
            id INTEGER PRIMARY KEY,
            message_id INTEGER NOT NULL REFERENCES messages (id),
            name TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            text TEXT NOT NULL
        )
        """,
        "CREATE INDEX attachments_of_message ON attachments (message_id)",
        # Without these, taking one message out reads all of both tables to see that nothing refers to it.
        "CREATE INDEX messages_by_parent ON messages (parent_id)",
        "CREATE INDEX conversations_by_head ON conversations (head)",
        # What a file says of an imported conversation, hashed: the same file again brings nothing new.
        "ALTER TABLE conversations ADD COLUMN fingerprint TEXT",
        "CREATE UNIQUE INDEX conversations_by_fingerprint ON conversations (fingerprint) WHERE fingerprint IS NOT NULL",
        # Whether a person chose the title; else it is the beginning of the first question.
        "ALTER TABLE conversations ADD COLUMN named INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX conversations_named ON conversations (named) WHERE named = 1",
        # The index holds no text, only where words are. A message with `indexed` 0 is not in it yet:
        # one that is being streamed, was cut by a crash or is older than the index.
        "ALTER TABLE messages ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX messages_not_indexed ON messages (id) WHERE indexed = 0",
        """
        CREATE VIRTUAL TABLE words USING fts5 (
            spaced, pairs, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
        )
        """,
    ),
    (
        # Emoji are words: the next search makes the index anew.
        "INSERT INTO words (words) VALUES ('delete-all')",
        "UPDATE messages SET indexed = 0 WHERE indexed = 1",
    ),
    (
        # Pictures, whole, so that a talk goes on after their files are gone; one that is shown often is stored once.
        "CREATE TABLE pictures (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "ALTER TABLE attachments ADD COLUMN media TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX attachments_of_pictures ON attachments (sha256) WHERE media <> ''",
    ),
)


def migrate(database: sqlite3.Connection) -> None:
    """Bring a database up to date in one transaction; `database` is in autocommit mode.

    Raises:
        HistoryError: a later chatcli wrote the database.

    """
    if _version(database) == len(MIGRATIONS):
        return
    try:
        database.execute("BEGIN IMMEDIATE")
        version = _version(database)  # again: another process may have just done it
        if version > len(MIGRATIONS):
            raise HistoryError(
                f"The history has version {version} and this chatcli knows versions up to {len(MIGRATIONS)}; "
                "upgrade chatcli."
            )
        for script in MIGRATIONS[version:]:
            for statement in script:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def require_present_version(database: sqlite3.Connection) -> None:
    """Refuse a database that would have to be migrated first.

    Raises:
        HistoryError: it has another version.

    """
    if _version(database) != len(MIGRATIONS):
        raise HistoryError(
            f"The history has version {_version(database)}, not {len(MIGRATIONS)}, and cannot be changed where it is; "
            "copy it to a folder that can be written to."
        )


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version
