"""A model as the server sees it: what many threads may ask at once.

The seam between HTTP and engines: one model in this process, a batch of talks, replicas elsewhere, all are this.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from chatcli.conversation import Conversation
from chatcli.generation import EngineFacts, Event, GenerationSettings


class Served(Protocol):
    """One model that is served. Every method may be called from many threads at once.

    Closing a stream cancels it, and only between two events can it be closed: one that waits, for its turn or for a
    long prompt to be read, says so with a `Progress` every tenth of a second.
    """

    @property
    def facts(self) -> EngineFacts:
        """What is known of the model; never blocks."""
        ...

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer a conversation; see `Engine.stream`. The calls of tools come as events of their own."""
        ...

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with bare text, or with token ids, under no chat template."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, control tokens in it as such."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens with it."""
        ...

    def embed(self, texts: Sequence[str]) -> Generator[Event]:
        """A vector of length 1 for each text, all of them in one `Embedded`; then `Finished`.

        Raises:
            UsageError: a text is too long, or the model has no such vectors.
        """
        ...

    def close(self) -> None:
        """Free what the model holds. May be called twice."""
        ...
