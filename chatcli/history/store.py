"""Every conversation in one SQLite file, safe for several processes at once.

Each method is one transaction. It knows rows and text; when to write what is the recorder's business.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chatcli.conversation import Role
from chatcli.errors import HistoryError, UsageError
from chatcli.generation import Finished
from chatcli.history import rows, search, tree
from chatcli.history.database import configured, connect_to_read, explained, open_or_set_aside
from chatcli.history.records import Attachment, Branch, Hit, StoredConversation, Summary
from chatcli.history.rows import clean, new_id
from chatcli.history.titles import one_line, title_of
from chatcli.history.words import excerpt

INDEXED_AT_ONCE = 500
"""Messages that one transaction puts into the index, so that no other process waits long."""
_SUMMARY = "SELECT id, title, model, created_at, updated_at, head FROM conversations"


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
        with explained(path):
            database, notice = open_or_set_aside(path, now)
        store = cls(database, path, now)
        store.notice = notice
        return store

    @classmethod
    def open_to_read(cls, path: Path, now: Callable[[], float] = time.time) -> Store:
        """The same, but a file in a place that cannot be written to is opened too, to be read only.

        Raises:
            HistoryError: the file cannot be read, or was written by another version.

        """
        try:
            return cls.open(path, now)
        except HistoryError:
            if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK):
                raise
        with explained(path):
            return cls(connect_to_read(path), path, now)

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

    # Writing a talk.

    def start(self, model: str, revision: str, system: str) -> str:
        """Begin a conversation; returns its id."""
        new, now = new_id(), self._now()
        with self._writing() as database:
            database.execute(
                "INSERT INTO conversations (id, title, model, revision, system, created_at, updated_at)"
                " VALUES (?, '', ?, ?, ?, ?, ?)",
                (new, clean(model), clean(revision), clean(system), now, now),
            )
        return new

    def add_question(
        self, conversation_id: str, parent: int | None, text: str, attachments: Sequence[Attachment] = ()
    ) -> int:
        """Add a user message below `parent` and move the head to it; returns its row.

        The first question gives the conversation its title. When this returns, the question is on the
        disk itself and outlives a power cut.
        """
        with self._writing(durable=True) as database:
            row = rows.add_message(database, conversation_id, parent, "user", text, self._now())
            rows.attach(database, row, attachments)
            database.execute(
                "UPDATE conversations SET title = ? WHERE id = ? AND title = ''", (title_of(text), conversation_id)
            )
            search.put(database, row)
        return row

    def begin_reply(
        self,
        conversation_id: str,
        parent: int,
        model: str,
        revision: str = "",
        settings: Mapping[str, Any] | None = None,
    ) -> int:
        """Add an empty reply below the question `parent` and move the head to it; returns its row."""
        with self._writing() as database:
            row = rows.add_message(database, conversation_id, parent, "assistant", "", self._now())
            rows.set_maker(database, row, model, revision, settings or {})
        return row

    def append(self, message_id: int, text: str, reasoning: str = "") -> None:
        """Add a piece to a reply; when this returns, the piece outlives the process."""
        with self._writing() as database:
            database.execute(
                "INSERT INTO pieces (message_id, text, reasoning) VALUES (?, ?, ?)",
                (message_id, clean(text), clean(reasoning)),
            )

    def finish(
        self, message_id: int, finished: Finished, *, text: str | None = None, reasoning: str | None = None
    ) -> None:
        """Note how a reply ended; like the question it then outlives a power cut, and can be searched for.

        `text` and `reasoning` are the whole reply, which then replaces the appended pieces: a Ctrl-C in the
        middle of `append` leaves the caller not knowing whether the last of them was kept.
        """
        whole = [None if each is None else clean(each) for each in (text, reasoning)]
        with self._writing(durable=True) as database:
            search.take(database, message_id)
            search.fold(database, message_id)
            database.execute(
                "UPDATE messages SET finish_reason = ?, prompt_tokens = ?, completion_tokens = ?, cached_tokens = ?,"
                " seconds_to_first = ?, seconds = ?, text = coalesce(?, text), reasoning = coalesce(?, reasoning)"
                " WHERE id = ?",
                (
                    finished.reason, finished.prompt_tokens, finished.completion_tokens, finished.cached_tokens,
                    finished.seconds_to_first, finished.seconds, *whole, message_id,
                ),
            )  # fmt: skip
            database.execute(
                "UPDATE conversations SET updated_at = ?"
                " WHERE id = (SELECT conversation_id FROM messages WHERE id = ?)",
                (self._now(), message_id),
            )
            search.put(database, message_id)

    def set_maker(self, message_id: int, model: str, revision: str, settings: Mapping[str, Any]) -> None:
        """Note what made a reply, where it was not known when the reply began."""
        with self._writing() as database:
            rows.set_maker(database, message_id, model, revision, settings)

    def set_head(self, conversation_id: str, message_id: int | None) -> None:
        """The conversation now ends with `message_id`, or is empty; what came later stays stored."""
        with self._writing() as database:
            database.execute("UPDATE conversations SET head = ? WHERE id = ?", (message_id, conversation_id))

    def set_system(self, conversation_id: str, text: str) -> None:
        """Replace the system message; an empty text removes it."""
        with self._writing() as database:
            database.execute("UPDATE conversations SET system = ? WHERE id = ?", (clean(text), conversation_id))

    def set_title(self, conversation_id: str, title: str) -> None:
        """Give a conversation another title, made one line."""
        with self._writing() as database:
            database.execute(
                "UPDATE conversations SET title = ?, named = 1 WHERE id = ?", (one_line(title), conversation_id)
            )

    def delete(self, conversation_ids: Sequence[str]) -> int:
        """Remove conversations with all their branches; returns how many were there."""
        with self._writing(durable=True) as database:
            return sum(rows.remove(database, each) for each in conversation_ids)

    def add_imported(self, conversations: Sequence[StoredConversation]) -> list[str]:
        """Add whole conversations in one transaction; for each its id, or "" where it was there already.

        A conversation with an id is known by it, one without by what is said in it.
        """
        with self._writing(durable=True) as database:
            return [rows.add_tree(database, each) for each in conversations]

    # Reading.

    def load(self, conversation_id: str, *, branches: bool = False) -> StoredConversation:
        """The conversation from its first message to its head; with `branches` also all `others`.

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
            if not found:
                raise UsageError(f'There is no conversation "{conversation_id}"; `chatcli history` lists them.')
            path = tree.path(database, found[-1])
            on_it = {each.id for each in path}
            every = tree.everything(database, conversation_id) if branches else []
        others = tuple(each for each in every if each.id not in on_it)
        return StoredConversation(*(*found[:-1], tuple(path), others))

    def branches(self, conversation_id: str) -> tuple[Branch, ...]:
        """Every way through a conversation, the oldest first; `set_head` to a branch's head goes on there."""
        with self._reading() as database:
            found = database.execute("SELECT head FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
            path = tree.path(database, found[0]) if found else []
            return tree.branches(tree.everything(database, conversation_id), path[-1] if path else None)

    def find(self, reference: str) -> str:
        """The id that `reference` means: an id, a prefix of just one, or `@1` for the latest, `@2` and so on.

        Raises:
            UsageError: it means no conversation, or several.

        """
        if reference.startswith("@") and reference[1:].isdecimal() and int(reference[1:]) > 0:
            return self._latest(reference, int(reference[1:]))
        prefix = clean(reference).lower()
        if not (prefix.isascii() and prefix.isalnum()):
            raise UsageError(_not_one(reference, []))
        with self._reading() as database:
            found = database.execute(
                "SELECT id, title FROM conversations WHERE id >= ? AND id < ? ORDER BY updated_at DESC LIMIT 6",
                (prefix, prefix + "{"),  # the character behind z
            ).fetchall()
        if len(found) != 1:
            raise UsageError(_not_one(reference, found))
        return str(found[0][0])

    def recent(self, limit: int) -> list[Summary]:
        """The conversations spoken in last, newest first."""
        return self._listed("ORDER BY updated_at DESC, rowid DESC LIMIT ?", (max(0, min(limit, 2**31)),))

    def older_than(self, time: float) -> list[Summary]:
        """The conversations last spoken in before `time`, the oldest first."""
        return self._listed("WHERE updated_at < ? ORDER BY updated_at, rowid", (time,))

    def ids(self) -> list[str]:
        """Every conversation's id, in the order in which they began."""
        with self._reading() as database:
            return [row[0] for row in database.execute("SELECT id FROM conversations ORDER BY created_at, rowid")]

    def search(self, query: str, limit: int) -> list[Hit]:
        """Conversations with a message that has every word of `query`, or with such a title.

        The newest message first, one a conversation. Any text is a query; none of it is an operator.
        """
        query = clean(query).replace("\0", " ")
        if not query.strip():
            return []
        with suppress(HistoryError):  # in a file that cannot be written to, what is in the index can be found
            self._index_the_rest()
        hits: dict[str, int] = {}
        with self._reading() as database:
            for talk, message_id in search.messages_with(database, query):
                if talk not in hits and len(hits) == limit:
                    break
                hits.setdefault(talk, message_id)
            for talk in search.named(database, query)[:limit]:
                hits.setdefault(talk, 0)
            found = [self._hit(database, talk, row, query) for talk, row in hits.items()]
        found.sort(key=lambda hit: hit.conversation.updated_at, reverse=True)
        return found[:limit]

    def _hit(self, database: sqlite3.Connection, talk: str, row: int, query: str) -> Hit:
        summary = _summary(database, database.execute(f"{_SUMMARY} WHERE id = ?", (talk,)).fetchone())
        role: Role
        role, text = (
            database.execute(f"SELECT role, {tree.whole('text')} FROM messages WHERE id = ?", (row,)).fetchone()
            if row
            else ("user", summary.title)
        )
        return Hit(summary, row, role, *excerpt(text, query))

    def _listed(self, which: str, values: tuple[float, ...]) -> list[Summary]:
        with self._reading() as database:
            return [_summary(database, row) for row in database.execute(f"{_SUMMARY} {which}", values).fetchall()]

    def _latest(self, reference: str, position: int) -> str:
        with self._reading() as database:
            found = database.execute(
                "SELECT id FROM conversations ORDER BY updated_at DESC, rowid DESC LIMIT 1 OFFSET ?",
                (min(position, 2**31) - 1,),
            ).fetchone()
            count = database.execute("SELECT count(*) FROM conversations").fetchone()[0] if not found else 0
        if found:
            return str(found[0])
        if not count:
            raise UsageError("There is no conversation yet; `chatcli run` begins one.")
        raise UsageError(f"There is no conversation {reference}; the history holds {count}.")

    def _index_the_rest(self) -> None:
        """Put into the index what a crash or an older chatcli left out of it."""
        while search.not_indexed(self._database, 1):
            with self._writing() as database:
                for message_id in search.not_indexed(database, INDEXED_AT_ONCE):
                    search.put(database, message_id)

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


def _summary(database: sqlite3.Connection, row: tuple[Any, ...]) -> Summary:
    return Summary(*(*row[:-1], tree.turns(database, row[-1])))


def _not_one(reference: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return f'No conversation has an id that begins with "{reference}"; `chatcli history` lists them.'
    names = ", ".join(f"{row[0]} ({row[1]})" for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    return f'Several conversations have ids that begin with "{reference}", type more of it: {names}.'
