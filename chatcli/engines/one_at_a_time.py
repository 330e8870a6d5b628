"""A local engine for many threads: whoever comes first is answered first, the others wait for their turn.

It knows a lock and an engine; that many could be answered together it does not know.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from chatcli.adapters.table import Table
from chatcli.conversation import Conversation
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import UsageError
from chatcli.generation import EngineFacts, Event, GenerationSettings, Progress
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report

_TURN_SECONDS = 0.05
"""How often one that waits looks whether it still should."""


def open_served(checkpoint: Checkpoint, table: Table, report: Report, request: LoadRequest) -> OneAtATime:
    """Load `checkpoint`; see `open_local`."""
    return OneAtATime(open_local(checkpoint, table, report, request))


class OneAtATime:
    """`engine` behind a lock."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    @property
    def facts(self) -> EngineFacts:
        """Those of the engine."""
        return self._engine.facts

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer when it is this one's turn, as a talk of its own."""
        while not self._lock.acquire(timeout=_TURN_SECONDS):
            yield Progress("waiting")
        try:
            with closing(self._engine.another_talk().stream(conversation, settings)) as events:
                yield from events
        finally:
            self._lock.release()

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Not without a batch.

        Raises:
            UsageError: always.
        """
        raise UsageError("This model only chats here: use /v1/chat/completions.")
        yield

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text; needs no turn."""
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; needs no turn."""
        return self._engine.detokenize(ids)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text."""
        with self._lock:
            return self._engine.embed(texts)

    def close(self) -> None:
        """Free the model's memory when the answer under way is given."""
        with self._lock:
            self._engine.close()
