"""A talk on its way to the disk: the question at once, the reply as it is shown.

When the store fails, the recorder says so once, in `notice`, and keeps quiet: a full disk must not
end a chat. It knows rows and pieces; it knows no engine and no prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chatcli.errors import HistoryError
from chatcli.generation import EngineFacts, Finished
from chatcli.history.store import Store

FLUSH_SECONDS = 0.1
"""A kill -9 loses at most what was shown within this time."""

T = TypeVar("T")


class Recorder:
    """Writes one conversation; `id` is empty until the first question.

    Rows are the store's message ids; row 0 stands for "not stored".
    """

    def __init__(self, store: Store, monotonic: Callable[[], float], *, conversation_id: str = "") -> None:
        self.id = conversation_id
        self.notice = ""
        self._store: Store | None = store
        self._monotonic = monotonic
        self._row = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._flushed = 0.0

    def question(self, facts: EngineFacts, system: str, parent: int | None, text: str) -> int:
        """Store a question below `parent`, and the conversation itself if it is the first; returns its row."""

        def write(store: Store) -> int:
            if not self.id:
                self.id = store.start(facts.model, facts.revision, system)
            return store.add_question(self.id, parent, text)

        return self._write(write) or 0

    def begin_reply(self, parent: int, model: str) -> int:
        """Store an empty reply below the question `parent`; pieces go to it from now on."""
        self.go_on(self._write(lambda store: store.begin_reply(self.id, parent, model)) or 0)
        return self._row

    def go_on(self, row: int) -> None:
        """Add the pieces that come to a reply that is stored."""
        self._row = row
        self._flushed = self._monotonic() - FLUSH_SECONDS

    def piece(self, text: str, reasoning: str) -> None:
        """Add a piece to the reply; it is on disk within `FLUSH_SECONDS`, as long as pieces come."""
        self._text.append(text)
        self._reasoning.append(reasoning)
        if self._monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def end_reply(self, finished: Finished, text: str, reasoning: str) -> None:
        """Store the whole reply and how it ended.

        The whole: a Ctrl-C in the middle of `append` leaves open whether the last piece was kept.
        """
        self._text.clear()
        self._reasoning.clear()
        self._write(lambda store: store.finish(self._row, finished, text=text, reasoning=reasoning))

    def set_head(self, row: int | None) -> None:
        """The conversation goes on from `row`; later messages stay stored beside it."""
        self._write(lambda store: store.set_head(self.id, row))

    def set_system(self, text: str) -> None:
        """Store another system message, once there is a conversation to have it."""
        if self.id:
            self._write(lambda store: store.set_system(self.id, text))

    def _flush(self) -> None:
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        self._text.clear()
        self._reasoning.clear()
        self._flushed = self._monotonic()
        if text or reasoning:
            self._write(lambda store: store.append(self._row, text, reasoning))

    def _write(self, write: Callable[[Store], T]) -> T | None:
        if self._store is None:
            return None
        try:
            return write(self._store)
        except HistoryError as error:
            self._store = None
            self.notice = str(error)
            return None
