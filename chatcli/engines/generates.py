"""What an engine asks of whatever makes ids of ids: a model in this process, or a place in a batch.

It knows neither; it is a protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Protocol

from chatcli.conversation import Attachment
from chatcli.generation import GenerationSettings, Progress

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.sampling import Drawn


class Generates(Protocol):
    """Whatever makes ids of ids as `CausalModel.generate` does: a model, or a place in a batch."""

    @property
    def logprobs(self) -> Sequence[Drawn]:
        """What is known of the tokens of the latest answer, where its settings asked for that."""
        ...

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: TokenConstraint | None = None,
        images: Sequence[Attachment] = (),
    ) -> Generator[Progress | int, None, bool]:
        """New ids after `ids`; returns whether one of `end` came."""
        ...
