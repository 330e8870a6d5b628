"""One talk with one engine: the only mutable thing, and its history is always true.

`Session` feeds the engine, keeps the conversation and has both written down: the question before the
model starts, the reply as it is shown. It knows no terminal, no tensor and no SQL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from chatcli.conversation import Attachment, Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import (
    Engine,
    Event,
    Finished,
    FinishReason,
    GenerationSettings,
    Layer,
    Progress,
    Reasoning,
    Sourced,
    Text,
    in_force,
)
from chatcli.history.recorder import Recorder
from chatcli.history.records import Branch, StoredConversation, unstored
from chatcli.history.store import Store
from chatcli.history.titles import title_of
from chatcli.streaming.gathered import Gathered


@dataclass(frozen=True, slots=True)
class _Kept:
    """The stored row of a message; `reason` tells how a reply ended, None where a crash cut it."""

    row: int
    reason: FinishReason | None = None


class Session:
    """A conversation that goes on.

    `conversation` is what the next prompt is made of. `unanswered` is a question that got no word of
    an answer (cancelled, failed): it stays in the history, not in the conversation, and is there to be
    asked again. Engines see attached files as part of the text. `last` tells how the latest reply went,
    `used_settings` what it was asked under, with the seed that was drawn for it. `store` holds this and all other
    conversations.
    """

    def __init__(
        self,
        engine: Engine,
        settings: GenerationSettings,
        store: Store,
        *,
        system: str | None = None,
        resume: str = "",
        said: tuple[Layer, ...] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin a new talk under `system`, or pick up the stored conversation with the id `resume`.

        A stored conversation keeps its own system message where `system` is None. `said` is where the
        `settings` come from.

        Raises:
            HistoryError: `resume` cannot be read.
            UsageError: `resume` names no stored conversation.

        """
        self.engine = engine
        self.settings = settings
        self.said = said
        self.conversation = Conversation().with_system(system or "")
        self._unanswered: Message | None = None
        self.last: Finished | None = None
        self.used_settings = settings
        self._previous: Engine | None = None
        self._monotonic = monotonic
        self.store = store
        self._path: tuple[_Kept, ...] = ()  # one for each message of `conversation.spoken`
        self._counted: Conversation | None = None  # the one that `last` has counted
        self._recorder = Recorder(store)
        if resume:
            self.resume(resume)
            if system is not None:
                self.set_system(system)

    @property
    def notice(self) -> str:
        """One sentence when the talk is no longer saved and nobody was told yet, else empty."""
        return self._recorder.notice

    @property
    def id(self) -> str:
        """The stored conversation's id; empty until the first question."""
        return self._recorder.id

    @property
    def unanswered(self) -> str:
        """The text of the question that got no answer, else empty."""
        return self._unanswered.text if self._unanswered else ""

    @property
    def question(self) -> Message | None:
        """The last question, answered or not; None where nothing was asked."""
        asked = (each for each in reversed(self.conversation.spoken) if each.role == "user")
        return self._unanswered or next(asked, None)

    def settings_in_force(self) -> list[Sourced]:
        """Every setting, its value and who said it, as far as the engine knows its model by now."""
        facts = self.engine.facts
        return list(in_force(self.settings, self.said, facts.layers, facts.unsaid))

    @property
    def used(self) -> int:
        """Tokens of the context that the conversation takes up; 0 where the engine cannot say."""
        if self.last and self.last.prompt_tokens and self._counted is self.conversation:
            return self.last.prompt_tokens + self.last.completion_tokens
        return self.engine.count(self.conversation.spelled_out)

    @property
    def ended(self) -> FinishReason | None:
        """How the conversation's last reply ended; None where there is none, or a crash cut it."""
        return self._path[-1].reason if self._path else None

    def say(self, text: str, attachments: Sequence[Attachment] = ()) -> Generator[Event]:
        """Ask `text` and stream the answer; closing the iterator cancels and keeps what was shown."""
        yield from self._ask(Message("user", text, attachments=tuple(attachments)), self.settings)

    def prepare(self, text: str, attachments: Sequence[Attachment] = ()) -> Generator[Event]:
        """Let the engine read what may be said next; nothing of it is kept. Closing the iterator ends it."""
        draft = Message("user", text, attachments=tuple(attachments))
        yield from self.engine.prepare(self.conversation.add(draft).spelled_out, self.settings)

    def retry(self, settings: GenerationSettings | None = None) -> Generator[Event]:
        """Ask the last question again; the earlier answer stays in the history beside the new one.

        `settings` go over the session's own this time. A question that was left unanswered is asked again
        too. With nothing to ask, streams nothing.
        """
        used = settings.over(self.settings) if settings else self.settings
        before = self.conversation.without_last_exchange()
        if self._unanswered:
            yield from self._ask(self._unanswered, used)
        elif before != self.conversation:
            asked = len(before.spoken) + 1
            question = self.conversation.spoken[asked - 1]
            yield from self._answer(before.add(question), self._path[:asked], used)

    def continue_(self) -> Generator[Event]:
        """Go on with the last reply, in the same message; only what is new comes out.

        The counts that are stored with the reply are then those of this last stretch.

        Raises:
            UsageError: there is no reply, or it had come to its end.

        """
        began = self.conversation.unfinished
        if self.unanswered or not began:
            raise UsageError("There is no reply to go on with; /retry asks the last question.")
        if self.ended == "stop":
            raise UsageError("The reply is complete: the model ended it by itself; /retry asks for another.")
        row = self._path[-1].row
        self._recorder.go_on(row)
        settings, reply = _seeded(self.settings), Gathered(self._monotonic, began)
        self.used_settings = settings
        try:
            yield from self._relay(self.conversation, settings, reply)
        finally:
            if reply.says_something:
                self._store_end(reply, settings)
                self._keep(self.conversation.without_last_message(), self._path[:-1], row, reply)

    def undo(self) -> str:
        """Take back the last question with its answer, if it got one; returns it, or "" where there is none."""
        if self.unanswered:
            taken, self._unanswered = self.unanswered, None
            self._recorder.set_head(self._head)
            return taken
        before = self.conversation.without_last_exchange()
        if before == self.conversation:
            return ""
        question = self.conversation.spoken[len(before.spoken)].text
        self.conversation, self._path = before, self._path[: len(before.spoken)]
        self._recorder.set_head(self._head)
        return question

    def clear(self) -> None:
        """Begin a new conversation under the same system message; the old one stays in the history."""
        self._begin(Conversation().with_system(self.conversation.system))

    def resume(self, conversation_id: str) -> None:
        """Go on with a stored conversation under its own system message; the present one stays stored.

        Raises:
            HistoryError: it cannot be read.
            UsageError: there is none.

        """
        stored = self.store.load(conversation_id)
        answered = stored.messages
        asked = answered[-1].message if answered and answered[-1].role == "user" else None
        if asked:
            answered = answered[:-1]
        spoken = tuple(each.message for each in answered)
        self._begin(Conversation(spoken).with_system(stored.system), stored.id)
        self._path = tuple(_Kept(m.id, m.finish_reason) for m in answered)
        self._unanswered = asked

    def branches(self) -> tuple[Branch, ...]:
        """The ways that this conversation took; none where it is not stored."""
        return self.store.branches(self.id) if self.id and self._recorder.saving else ()

    def switch_branch(self, branch: Branch) -> None:
        """Go on from the end of another branch."""
        self.store.set_head(self.id, branch.head)
        self.resume(self.id)

    def stored(self, *, branches: bool = False) -> StoredConversation:
        """The conversation as it is stored, or as it would be where it could not be stored.

        Raises:
            HistoryError: it cannot be read.

        """
        if self.id and self._recorder.saving:
            return self.store.load(self.id, branches=branches)
        title = title_of(self.conversation.spoken[0].text) if self.conversation.spoken else ""
        return unstored(self.conversation, self.engine.facts.model, title)

    def set_title(self, text: str) -> None:
        """Give the conversation a name of its own.

        Raises:
            HistoryError: it cannot be written.
            UsageError: nothing has been said yet.

        """
        if not self.id:
            raise UsageError("There is nothing to name yet: the first question begins the conversation.")
        self.store.set_title(self.id, text)

    def set_system(self, text: str) -> None:
        """Put the conversation under another system message; an empty text removes it."""
        self.conversation = self.conversation.with_system(text)
        self._recorder.set_system(text)

    def switch(self, engine: Engine) -> None:
        """Answer with another engine from now on; the present one is kept until `settle` or `switch_back`."""
        if self._previous:
            self.engine.close()
        else:
            self._previous = self.engine
        self.engine = engine
        self._counted = None

    def settle(self) -> None:
        """The engine has proved right: close the one before it."""
        if self._previous:
            self._previous.close()
            self._previous = None

    def switch_back(self) -> bool:
        """Answer with the engine before the last `switch` again; False where there is none."""
        if not self._previous:
            return False
        self.engine.close()
        self.engine, self._previous = self._previous, None
        self._counted = None
        return True

    @property
    def _head(self) -> int | None:
        return self._path[-1].row if self._path else None

    def _begin(self, conversation: Conversation, conversation_id: str = "") -> None:
        self.conversation = conversation
        self._recorder = Recorder(self.store, conversation_id=conversation_id)
        self._path, self._unanswered, self.last = (), None, None

    def _ask(self, said: Message, settings: GenerationSettings) -> Generator[Event]:
        facts, system = self.engine.facts, self.conversation.system
        question = self._recorder.question(facts, system, self._head, said.text, said.attachments)
        asked = self.conversation.add(said)
        yield from self._answer(asked, (*self._path, _Kept(question)), settings)

    def _answer(self, asked: Conversation, path: tuple[_Kept, ...], settings: GenerationSettings) -> Generator[Event]:
        """Stream the answer to `asked`, whose messages are kept in `path`; in any case keep what was shown."""
        settings, reply = _seeded(settings), Gathered(self._monotonic)
        self.used_settings = settings
        row = self._recorder.begin_reply(path[-1].row, self.engine.facts, settings)
        try:
            yield from self._relay(asked, settings, reply)
        finally:
            self._store_end(reply, settings)
            if reply.says_something:
                self._unanswered = None
                self._keep(asked, path, row, reply)
            elif len(path) <= len(self._path):  # a retry: the earlier answer stands
                self._recorder.set_head(self._head)
            else:  # the stored talk ends with the question, so that it is offered when it is picked up
                self._unanswered = asked.messages[-1]

    def _store_end(self, reply: Gathered, settings: GenerationSettings) -> None:
        message = reply.message
        self._recorder.end_reply(reply.finished, message.text, message.reasoning, self.engine.facts, settings)

    def _keep(self, asked: Conversation, path: tuple[_Kept, ...], row: int, reply: Gathered) -> None:
        """The talk goes on from the reply to `asked` as it was shown."""
        self.conversation = self._counted = asked.add(reply.message)
        self._path = (*path, _Kept(row, reply.finished.reason))

    def _relay(self, asked: Conversation, settings: GenerationSettings, reply: Gathered) -> Generator[Event]:
        """Pass on what the engine says; `reply` gathers it, the recorder writes it down."""
        self._counted = None
        try:
            with closing(self.engine.stream(asked.spelled_out, settings)) as events:
                for event in events:
                    reply.add(event)
                    match event:
                        case Text(piece):
                            self._recorder.piece(piece, "")
                        case Reasoning(piece):
                            self._recorder.piece("", piece)
                    yield event
                    yield from self._lost_history()
        except (GeneratorExit, KeyboardInterrupt):
            reply.cancelled()
            raise
        finally:
            self.last = reply.finished

    def _lost_history(self) -> Generator[Event]:
        if self._recorder.notice:
            yield Progress("saving", note=self._recorder.notice)
            self._recorder.notice = ""


def _seeded(settings: GenerationSettings) -> GenerationSettings:
    """The settings with a seed: drawn here, not in the engine, so that it is stored and the reply can be made again."""
    return settings if settings.seed is not None else replace(settings, seed=int.from_bytes(os.urandom(4), "big"))
