"""Many conversations answered together: sorted by length, so that little is padded, some at a time.

It knows how a local model is prompted and read; files and lines are `chatcli.batches`'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from chatcli.adapters.format import ChatFormat
from chatcli.adapters.tool_prompt import offered
from chatcli.conversation import Conversation, Message, Tool
from chatcli.engines.counted import Counted
from chatcli.engines.overflow import fit
from chatcli.engines.reply import Reply
from chatcli.errors import ChatcliError, OutOfMemory
from chatcli.generation import Finished, GenerationSettings

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.model import CausalModel

ROWS = 32
"""Conversations in one batch at the most."""
TOKENS = 1 << 17
"""Tokens of prompts and answers that one batch may come to at the most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the question at `index`: a message and how it ended, or why there is none.

    `notes` are sentences about it that the person must see.
    """

    index: int
    message: Message = field(default_factory=lambda: Message("assistant", ""))
    finished: Finished = field(default_factory=lambda: Finished("error"))
    error: ChatcliError | None = None
    notes: tuple[str, ...] = ()


class AnswersTogether(Protocol):
    """An engine that answers many conversations at once; closing the generator leaves those that have no answer."""

    def answer_together(self, asked: Sequence[tuple[Conversation, GenerationSettings]]) -> Generator[Answer]:
        """Answers as they end, in any order."""
        ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A question as ids, with its settings and how many tokens its answer may have."""

    index: int
    ids: list[int]
    settings: GenerationSettings
    limit: int
    tools: tuple[Tool, ...]


Constrain = Callable[[GenerationSettings, int, bool], "TokenConstraint | None"]


def answer_together(
    asked: Sequence[tuple[Conversation, GenerationSettings]],
    chat: ChatFormat,
    model: CausalModel,
    context: int,
    constrain: Constrain,
) -> Generator[Answer]:
    """Answer every conversation, as each alone would be answered; answers come as they end.

    `constrain` gives a question's settings, limit and whether it begins within reasoning their constraint. A
    question that cannot be asked or answered has an error for an answer; the others do not suffer.
    """
    waiting: list[_Prepared] = []
    for index, (conversation, said) in enumerate(asked):
        try:
            settings = chat.held_to_calls(conversation, said)
            fitted = fit(conversation, lambda part, s=settings: chat.encode(part, (), s), context, settings)  # type: ignore[misc]
        except ChatcliError as error:
            yield Answer(index, error=error)
            continue
        limit = min(settings.max_new_tokens or fitted.room, fitted.room)
        waiting.append(_Prepared(index, fitted.ids, settings, limit, offered(conversation)))
    waiting.sort(key=lambda each: len(each.ids))
    rows = ROWS if model.batches else 1
    while waiting:
        batch = _first(waiting, rows)
        left = {each.index for each in batch}
        try:
            for answer in _answered(batch, chat, model, constrain):
                left.discard(answer.index)
                yield answer
        except OutOfMemory as error:
            if len(batch) == 1:
                yield Answer(batch[0].index, error=error)
                left.clear()
            rows = max(len(batch) // 2, 1)
        except ChatcliError as error:
            yield from (Answer(index, error=error) for index in sorted(left))
            left.clear()
        waiting = [each for each in batch if each.index in left] + waiting[len(batch) :]


def _first(waiting: Sequence[_Prepared], rows: int) -> list[_Prepared]:
    """The shortest prompts that make a batch."""
    batch: list[_Prepared] = []
    for each in waiting[:rows]:
        longest = max(len(other.ids) + other.limit for other in (*batch, each))
        if batch and longest * (len(batch) + 1) > TOKENS:
            break
        batch.append(each)
    return batch


def _answered(
    batch: Sequence[_Prepared], chat: ChatFormat, model: CausalModel, constrain: Constrain
) -> Generator[Answer]:
    begun = time.monotonic()
    counted = [Counted(begun, len(each.ids)) for each in batch]
    inside = [chat.begins_inside_reasoning(each.ids) for each in batch]
    replies = [
        Reply(chat, each.settings, inside=within, tools=each.tools) for each, within in zip(batch, inside, strict=True)
    ]
    made = [0] * len(batch)
    stopped: set[int] = set()

    def over(row: int, *, ended: bool) -> Answer:
        for event in replies[row].flush(ended=ended):
            replies[row].show(event)
        finished = counted[row].finished(replies[row].reason(ended=ended), made[row])
        return Answer(batch[row].index, replies[row].shown, finished)

    tokens = model.generate_batch(
        [each.ids for each in batch],
        [each.settings for each in batch],
        end=[chat.end | reply.end for reply in replies],
        limits=[each.limit for each in batch],
        stopped=stopped,
        constraints=[constrain(each.settings, each.limit, within) for each, within in zip(batch, inside, strict=True)],
    )
    for row, token in tokens:
        if token is None:
            yield over(row, ended=True)
            continue
        counted[row].token()
        made[row] += 1
        for event in replies[row].push(token):
            replies[row].show(event)
        if replies[row].stopped:
            stopped.add(row)
            yield over(row, ended=True)
        elif made[row] == batch[row].limit:
            yield over(row, ended=False)
