"""A talk on its way to the disk: the question at once, the reply as it is shown.

When the store fails, the recorder says so once, in `notice`, and keeps quiet: a full disk must not
end a chat. It knows rows and pieces; it knows no engine and no prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from chatcli.errors import HistoryError
from chatcli.generation import EngineFacts, Finished, GenerationSettings
from chatcli.history.store import Store

T = TypeVar("T")


class Recorder:
    """Writes one conversation; `id` is empty until the first question.

    Rows are the store's message ids; row 0 stands for "not stored".
    """

    def __init__(self, store: Store, *, conversation_id: str = "") -> None:
        self.id = conversation_id
        self.notice = ""
        self._store: Store | None = store
        self._row = 0
        self._made_by: tuple[str, str, dict[str, Any]] = ("", "", {})

    @property
    def saving(self) -> bool:
        """Whether the store has taken everything so far."""
        return self._store is not None

    def question(self, facts: EngineFacts, system: str, parent: int | None, text: str) -> int:
        """Store a question below `parent`, and the conversation itself if it is the first; returns its row."""

        def write(store: Store) -> int:
            if not self.id:
                self.id = store.start(facts.model, facts.revision, system)
            return store.add_question(self.id, parent, text)

        return self._write(write) or 0

    def begin_reply(self, parent: int, facts: EngineFacts, settings: GenerationSettings) -> int:
        """Store an empty reply below the question `parent`; pieces go to it from now on."""
        made_by = _made_by(facts, settings)
        self.go_on(self._write(lambda store: store.begin_reply(self.id, parent, *made_by)) or 0)
        self._made_by = made_by
        return self._row

    def go_on(self, row: int) -> None:
        """Add the pieces that come to a reply that is stored."""
        self._row, self._made_by = row, ("", "", {})

    def piece(self, text: str, reasoning: str) -> None:
        """Add a piece to the reply: it is on disk before it is shown, so that a kill -9 loses nothing."""
        self._write(lambda store: store.append(self._row, text, reasoning))

    def end_reply(
        self, finished: Finished, text: str, reasoning: str, facts: EngineFacts, settings: GenerationSettings
    ) -> None:
        """Store the whole reply, how it ended and what made it, which a model that was loading did not know before.

        The whole: a Ctrl-C in the middle of `append` leaves open whether the last piece was kept.
        """
        made_by = _made_by(facts, settings)
        if made_by != self._made_by:
            self._write(lambda store: store.set_maker(self._row, *made_by))
        self._write(lambda store: store.finish(self._row, finished, text=text, reasoning=reasoning))

    def set_head(self, row: int | None) -> None:
        """The conversation goes on from `row`; later messages stay stored beside it."""
        self._write(lambda store: store.set_head(self.id, row))

    def set_system(self, text: str) -> None:
        """Store another system message, once there is a conversation to have it."""
        if self.id:
            self._write(lambda store: store.set_system(self.id, text))

    def _write(self, write: Callable[[Store], T]) -> T | None:
        if self._store is None:
            return None
        try:
            return write(self._store)
        except HistoryError as error:
            self._store = None
            self.notice = str(error)
            return None


def _made_by(facts: EngineFacts, settings: GenerationSettings) -> tuple[str, str, dict[str, Any]]:
    """Model, revision and the settings that hold, the engine's own where the person left them open."""
    used = asdict(settings.over(facts.defaults))
    return facts.model, facts.revision, {name: value for name, value in used.items() if value is not None}
