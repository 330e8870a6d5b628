"""What of a long talk goes into the prompt when the context is full: never a silent cut.

Whole exchanges are left out, the oldest first; the system message and the last question stay. It
knows counts of tokens; how they come about is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chatcli.conversation import Conversation
from chatcli.errors import ContextOverflow
from chatcli.generation import GenerationSettings

RESERVE = 512
"""Tokens kept free for the answer, or a quarter of a small context."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits: its ids, how many tokens are left for the answer, how many exchanges are left out."""

    ids: list[int]
    room: int
    dropped: int

    @property
    def note(self) -> str:
        """One sentence for the person."""
        oldest = "exchange is" if self.dropped == 1 else f"{self.dropped} exchanges are"
        return f"The context is full: the oldest {oldest} no longer part of the prompt (they stay in the history)."


def room(context: int, settings: GenerationSettings) -> int:
    """How many of the context's tokens a prompt may take, so that an answer has some, too."""
    return context - min(settings.max_new_tokens or RESERVE, context // 4)


def fit(
    conversation: Conversation,
    encode: Callable[[Conversation], list[int]],
    context: int,
    settings: GenerationSettings,
    *,
    dropped: int = 0,
) -> Fitted:
    """The longest recent part of `conversation` that fits into `context` tokens with room for an answer.

    `dropped` exchanges were left out last time. They are left out again as long as that is enough, and
    when it is not, the talk is cut to half the context: a beginning that moves with every turn would
    have the whole prompt read anew each time.

    Raises:
        ContextOverflow: nothing may be left out (`overflow` "stop"), or the last question alone is too long.
    """
    reserve = context - room(context, settings)
    ids = encode(conversation)
    if len(ids) + reserve <= context:
        return Fitted(ids, context - len(ids), 0)
    if settings.overflow == "stop":
        raise ContextOverflow(
            f"The talk has {len(ids)} tokens, and of the context's {context} an answer needs {reserve}: shorten it "
            "with /undo or /clear, or allow --overflow drop-oldest.",
            len(ids),
        )
    count = 0
    while conversation.exchanges > 1:
        conversation = conversation.without_first_exchange()
        count += 1
        if count < dropped and conversation.exchanges > 1:
            continue
        ids = encode(conversation)
        if len(ids) <= (context - reserve if count == dropped else context // 2):
            break
    if len(ids) >= context:
        raise ContextOverflow(
            f"The question has {len(ids)} tokens with what must go with it, but the model's context holds {context}: "
            "shorten it, or choose a model with a longer context.",
            len(ids),
        )
    return Fitted(ids, context - len(ids), count)
