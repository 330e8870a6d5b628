"""Requests to a running batch, and how far each has come.

They know ids, settings and whom to tell; no model, and no order in which they are served.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from chatcli.conversation import Attachment
from chatcli.errors import ChatcliError
from chatcli.generation import GenerationSettings, Progress

if TYPE_CHECKING:
    import torch

    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.kv import PrefixCache
    from chatcli.runtime.sampling import Drawn, Sampler

Told: TypeAlias = Progress | int | bool | BaseException
"""What a request is told: what is read, its tokens, and last whether it came to its own end, or why it could not."""


@dataclass(eq=False)
class Request:
    """A prompt, how to go on with it, and whom to tell.

    Attributes:
        cancelled: to be set by whoever asked, from any thread; nothing is told from then on.
        logprobs: of the tokens told, where the settings ask for them.
    """

    ids: Sequence[int]
    settings: GenerationSettings
    end: Collection[int]
    limit: int
    tell: Callable[[Told], None]
    constraint: TokenConstraint | None = None
    images: Sequence[Attachment] = ()
    cancelled: bool = False
    logprobs: list[Drawn] = field(default_factory=list)


@dataclass(eq=False)
class Row:
    """A request on its way, the `number`th to come.

    `seen` are its prompt and its tokens, `left` is what is to be read of them yet, `passed` what was read of others
    while it waited. `steps` does the work of one that is being read, takes turns or is answered `alone`. One that is
    being read wants more of `seen` in `cache`, the `undivided` first ones at once, and is sent the logits (vocabulary).
    """

    request: Request
    number: int
    seen: list[int]
    left: int
    takes_turns: bool
    alone: bool = False
    passed: int = 0
    made: int = 0
    sampler: Sampler | None = None
    steps: Generator[None, torch.Tensor | None] | None = None
    cache: PrefixCache | None = None
    undivided: int = 0

    @property
    def urgency(self) -> int:
        """The lower, the sooner it is read: a short one does not wait for a long one, and that not for ever."""
        return self.left - self.passed

    def take(self, token: int | ChatcliError) -> bool:
        """Tell the request what was drawn for it; returns whether that was all."""
        request = self.request
        if isinstance(token, ChatcliError):
            request.tell(token)
            return True
        if token in request.end:
            request.tell(True)
            return True
        self.seen.append(token)
        self.made += 1
        request.tell(token)
        if self.made == request.limit:
            request.tell(False)
        return self.made == request.limit
