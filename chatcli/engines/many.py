"""A local engine for many threads at once: every request is a talk of its own.

How the talks share a model is said where this is derived from.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from chatcli.conversation import Conversation
from chatcli.engines.local import LocalEngine
from chatcli.generation import EngineFacts, Event, GenerationSettings


class ManyTalks:
    """`engine`, which is this one's from now on, for any number of threads."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    @property
    def facts(self) -> EngineFacts:
        """Those of the engine."""
        return self._engine.facts

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer as `LocalEngine.stream` does, with the same tokens; what waits says so every tenth of a second."""
        with closing(self._talk().stream(conversation, settings)) as events:
            yield from events

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with a text or with ids as `LocalEngine.complete` does."""
        with closing(self._talk().complete(prompt, settings)) as events:
            yield from events

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text; nothing is computed for it."""
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._engine.detokenize(ids)

    def _talk(self) -> LocalEngine:
        """An engine for one request."""
        return self._engine.another_talk()
