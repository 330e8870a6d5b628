"""Every conversation in one SQLite file: the only module that reads or writes it.

Each method is one transaction. It knows rows and text; when to write what is the recorder's business.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unicodedata import combining, east_asian_width

from chatcli.conversation import Role
from chatcli.errors import HistoryError, UsageError
from chatcli.generation import Finished, FinishReason
from chatcli.history.branches import BEGINNING, Branch, Node, branches
from chatcli.history.database import configured, connect, explained, is_damage, move_aside

ID_LENGTH = 12
TITLE_COLUMNS = 60

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: nothing to misread


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One row of the message tree; `finish_reason` is None for questions and for replies cut by a crash."""

    id: int
    role: Role
    text: str
    reasoning: str
    finish_reason: FinishReason | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    created_at: float


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation as it stands: the messages from the first to the head. Times are seconds since 1970."""

    id: str
    title: str
    model: str
    revision: str
    system: str
    created_at: float
    updated_at: float
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of the list of conversations; `turns` counts the questions that were not taken back."""

    id: str
    title: str
    model: str
    updated_at: float
    turns: int


class Store:
    """The stored conversations.

    `notice` is one sentence for the person when opening did not go as it should, and empty otherwise.
    Every method raises `HistoryError` when the file cannot be read or written. A store belongs to the
    thread that opened it; any number of processes may have the same file open.
    """

    def __init__(self, database: sqlite3.Connection, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.notice = ""
        self._database = database
        self._now = now

    @classmethod
    def open(cls, path: Path, now: Callable[[], float] = time.time) -> Store:
        """Open the file, made if need be, readable by nobody else.

        A damaged file is moved aside and a new one begun; `notice` then tells.

        Raises:
            HistoryError: the file can be neither read nor made, or a later chatcli wrote it.

        """
        notice = ""
        with explained(path):
            try:
                database = connect(path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                aside = move_aside(path, now())
                notice = f"The history was damaged and is now at {aside}; a new one has begun."
                database = connect(path)
        store = cls(database, path, now)
        store.notice = notice
        return store

    @classmethod
    def in_memory(cls, now: Callable[[], float] = time.time) -> Store:
        """A store that ends with the process."""
        return cls(configured(sqlite3.connect(":memory:", isolation_level=None)), Path(":memory:"), now)

    @classmethod
    def open_or_memory(cls, path: Path, now: Callable[[], float] = time.time) -> Store:
        """The store at `path`; where that cannot be, one in memory whose `notice` says why nothing is saved."""
        try:
            return cls.open(path, now)
        except HistoryError as error:
            store = cls.in_memory(now)
            store.notice = f"This chat is not saved: {error}"
            return store

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._database.close()

    def start(self, model: str, revision: str, system: str) -> str:
        """Begin a conversation; returns its id."""
        # Random rather than sortable: ids that begin with the time share their beginning, and people type it.
        new = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
        now = self._now()
        with self._writing() as database:
            database.execute(
                "INSERT INTO conversations (id, title, model, revision, system, created_at, updated_at)"
                " VALUES (?, '', ?, ?, ?, ?, ?)",
                (new, _clean(model), _clean(revision), _clean(system), now, now),
            )
        return new

    def add_question(self, conversation_id: str, parent: int | None, text: str) -> int:
        """Add a user message below `parent` and move the head to it; returns its row.

        The first question gives the conversation its title. When this returns, the question is on the
        disk itself and outlives a power cut.
        """
        with self._writing(durable=True) as database:
            row = self._insert(conversation_id, parent, "user", text)
            database.execute(
                "UPDATE conversations SET title = ? WHERE id = ? AND title = ''", (title_of(text), conversation_id)
            )
        return row

    def begin_reply(self, conversation_id: str, parent: int, model: str) -> int:
        """Add an empty reply below the question `parent` and move the head to it; returns its row.

        The conversation is from now on one with `model`.
        """
        with self._writing() as database:
            database.execute(
                "UPDATE conversations SET revision = '', model = ? WHERE id = ? AND model != ?",
                (_clean(model), conversation_id, _clean(model)),
            )
            return self._insert(conversation_id, parent, "assistant", "", model)

    def append(self, message_id: int, text: str, reasoning: str = "") -> None:
        """Add a piece to a reply; when this returns, the piece outlives the process."""
        with self._writing() as database:
            database.execute(
                "UPDATE messages SET text = text || ?, reasoning = reasoning || ? WHERE id = ?",
                (_clean(text), _clean(reasoning), message_id),
            )

    def finish(
        self, message_id: int, finished: Finished, *, text: str | None = None, reasoning: str | None = None
    ) -> None:
        """Note how a reply ended; like the question it then outlives a power cut.

        `text` and `reasoning` are the whole reply, which then replaces the appended pieces: a Ctrl-C in the
        middle of `append` leaves the caller not knowing whether the last of them was kept.
        """
        with self._writing(durable=True) as database:
            database.execute(
                "UPDATE messages SET finish_reason = ?, prompt_tokens = ?, completion_tokens = ?,"
                " text = coalesce(?, text), reasoning = coalesce(?, reasoning) WHERE id = ?",
                (
                    finished.reason,
                    finished.prompt_tokens,
                    finished.completion_tokens,
                    None if text is None else _clean(text),
                    None if reasoning is None else _clean(reasoning),
                    message_id,
                ),
            )
            database.execute(
                "UPDATE conversations SET updated_at = ?"
                " WHERE id = (SELECT conversation_id FROM messages WHERE id = ?)",
                (self._now(), message_id),
            )

    def set_head(self, conversation_id: str, message_id: int | None) -> None:
        """The conversation now ends with `message_id`, or is empty; what came later stays stored."""
        self._update(conversation_id, "head", message_id)

    def set_system(self, conversation_id: str, text: str) -> None:
        """Replace the system message; an empty text removes it."""
        self._update(conversation_id, "system", _clean(text))

    def set_title(self, conversation_id: str, text: str) -> None:
        """Replace the title by the first line of `text`."""
        self._update(conversation_id, "title", title_of(text))

    def load(self, conversation_id: str) -> StoredConversation:
        """The conversation from its first message to its head.

        A reply at the end that was broken off before its first word is left out, so that the path ends
        with the question to ask again.

        Raises:
            UsageError: there is no such conversation.

        """
        with self._reading() as database:
            found = database.execute(
                "SELECT id, title, model, revision, system, created_at, updated_at, head"
                " FROM conversations WHERE id = ?",
                (conversation_id,),
            ).fetchone()
            rows = database.execute(_PATH, (found[-1] if found else None,)).fetchall()
        if not found:
            raise UsageError(f'There is no conversation "{conversation_id}"; `chatcli history` lists them.')
        messages = [StoredMessage(*row) for row in rows]
        if messages and _is_empty_reply(messages[-1]):
            messages.pop()
        return StoredConversation(*(*found[:-1], tuple(messages)))

    def branches(self, conversation_id: str) -> list[Branch]:
        """The ends of the conversation's message tree, in the order of their making."""
        with self._reading() as database:
            head = database.execute("SELECT head FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
            rows = database.execute(
                "SELECT id, parent_id, role, substr(text, 1, ?), role = 'assistant' AND text = '' AND reasoning = ''"
                " AND coalesce(finish_reason, '') NOT IN ('stop', 'length'), model, created_at"
                " FROM messages WHERE conversation_id = ? ORDER BY id",
                (BEGINNING, conversation_id),
            ).fetchall()
        return branches([Node(*row[:4], bool(row[4]), *row[5:]) for row in rows], head[0] if head else None)

    def find(self, reference: str) -> str:
        """The id that `reference` means: an id, a prefix of just one, or `@1` for the latest, `@2` and so on.

        Raises:
            UsageError: it means no conversation, or several.

        """
        if reference.startswith("@") and reference[1:].isdecimal() and int(reference[1:]) > 0:
            position = int(reference[1:])
            listed = self.recent(position)
            if not listed:
                raise UsageError("There is no conversation yet; `chatcli run` begins one.")
            if len(listed) < position:
                raise UsageError(f"There is no conversation {reference}; the history holds {len(listed)}.")
            return listed[-1].id
        prefix = _clean(reference).lower()
        with self._reading() as database:
            rows = database.execute(
                "SELECT id, title FROM conversations WHERE substr(id, 1, ?) = ? ORDER BY updated_at DESC LIMIT 6",
                (len(prefix), prefix),
            ).fetchall()
        if len(rows) != 1 or not prefix:
            raise UsageError(_not_one(reference, rows if prefix else []))
        return str(rows[0][0])

    def recent(self, limit: int) -> list[Summary]:
        """The conversations spoken in last, newest first."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT id, title, model, updated_at, head FROM conversations"
                " ORDER BY updated_at DESC, rowid DESC LIMIT ?",
                (max(0, min(limit, 2**31)),),
            ).fetchall()
            turns = [database.execute(_TURNS, row[-1:]).fetchone() for row in rows]
        return [Summary(*row[:-1], *count) for row, count in zip(rows, turns, strict=True)]

    def _insert(self, conversation_id: str, parent: int | None, role: Role, text: str, model: str = "") -> int:
        now = self._now()
        row = self._database.execute(
            "INSERT INTO messages (conversation_id, parent_id, role, text, model, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (conversation_id, parent, role, _clean(text), _clean(model), now),
        ).lastrowid
        assert row is not None
        self._database.execute(
            "UPDATE conversations SET head = ?, updated_at = ? WHERE id = ?", (row, now, conversation_id)
        )
        return row

    def _update(self, conversation_id: str, column: str, value: str | int | None) -> None:
        with self._writing() as database:
            database.execute(
                f"UPDATE conversations SET {column} = ?, updated_at = ? WHERE id = ?",
                (value, self._now(), conversation_id),
            )

    @contextmanager
    def _writing(self, *, durable: bool = False) -> Generator[sqlite3.Connection]:
        """One transaction. Not `durable`, it outlives the process but perhaps not a power cut; costs no fsync."""
        database = self._database
        with explained(self.path):
            database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            try:
                # IMMEDIATE: a transaction that first reads and then writes fails at once when another writes.
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        """One snapshot."""
        with explained(self.path):
            try:
                self._database.execute("BEGIN")
                yield self._database
            finally:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")


# A parent is older than its child; the comparison ends the walk in any file, however damaged.
_WALK = """
    WITH RECURSIVE path (id, parent_id) AS (
        SELECT id, parent_id FROM messages WHERE id = ?
        UNION ALL
        SELECT m.id, m.parent_id FROM messages m JOIN path ON m.id = path.parent_id AND m.id < path.id
    )
"""
_PATH = f"""{_WALK}
    SELECT id, role, text, reasoning, finish_reason, prompt_tokens, completion_tokens, model, created_at
    FROM messages WHERE id IN (SELECT id FROM path) ORDER BY id
"""
_TURNS = f"{_WALK} SELECT count(*) FROM messages WHERE id IN (SELECT id FROM path) AND role = 'user'"


def title_of(text: str) -> str:
    """The first line that says something, as one line of at most `TITLE_COLUMNS` terminal columns."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join("".join(c for c in line if c.isprintable() or c.isspace()).split())
    if sum(map(_columns, line)) <= TITLE_COLUMNS:
        return line
    room = TITLE_COLUMNS - 1
    for index, character in enumerate(line):
        room -= _columns(character)
        if room < 0:
            return line[:index].rstrip() + "…"
    return line


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _clean(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 and so SQLite cannot hold."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_empty_reply(message: StoredMessage) -> bool:
    ended = message.finish_reason in ("stop", "length")
    return message.role == "assistant" and not (ended or message.text or message.reasoning)


def _not_one(reference: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return f'No conversation has an id that begins with "{reference}"; `chatcli history` lists them.'
    names = ", ".join(f"{row[0]} ({row[1]})" for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f'Several conversations have ids that begin with "{reference}", type more of it: {names}.'
