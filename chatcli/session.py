"""One talk with one engine: the only mutable thing, and its history is always true.

`Session` feeds the engine, keeps the conversation and has both written down: the question before the
model starts, the reply as it is shown. It knows no terminal, no tensor and no SQL.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from chatcli.conversation import Conversation, Message
from chatcli.generation import Engine, Event, Finished, GenerationSettings, Progress, Reasoning, Text
from chatcli.history.recorder import Recorder
from chatcli.history.store import Store


class Session:
    """A conversation that goes on.

    `conversation` is what the next prompt is made of. `unanswered` is a question that got no word of
    an answer (cancelled, failed): it stays in the history, not in the conversation, and is there to be
    asked again. `last` tells how the latest reply went.
    """

    def __init__(
        self,
        engine: Engine,
        settings: GenerationSettings,
        store: Store,
        *,
        system: str | None = None,
        resume: str = "",
    ) -> None:
        """Begin a new talk under `system`, or pick up the stored conversation with the id `resume`.

        A stored conversation keeps its own system message where `system` is None.

        Raises:
            HistoryError: `resume` cannot be read.
            UsageError: `resume` names no stored conversation.

        """
        self.engine = engine
        self.settings = settings
        self.conversation = Conversation().with_system(system or "")
        self.unanswered = ""
        self.last: Finished | None = None
        self._store = store
        self._path: tuple[int, ...] = ()  # the stored row of each message of `conversation.spoken`
        self._recorder = Recorder(store)
        if resume:
            self._resume(resume, system)

    @property
    def notice(self) -> str:
        """One sentence when the talk is no longer saved and nobody was told yet, else empty."""
        return self._recorder.notice

    @property
    def id(self) -> str:
        """The stored conversation's id; empty until the first question."""
        return self._recorder.id

    def say(self, text: str) -> Generator[Event]:
        """Ask `text` and stream the answer; closing the iterator cancels and keeps what was shown."""
        question = self._recorder.question(self.engine.facts, self.conversation.system, self._head, text)
        yield from self._answer(self.conversation.add(Message("user", text)), (*self._path, question))

    def retry(self) -> Generator[Event]:
        """Ask the last question again; the earlier answer stays in the history beside the new one.

        A question that was left unanswered is asked again too. With nothing to ask, streams nothing.
        """
        if self.unanswered:
            yield from self.say(self.unanswered)
            return
        before = self.conversation.without_last_exchange()
        if before != self.conversation:
            asked = len(before.spoken) + 1
            question = self.conversation.spoken[asked - 1]
            yield from self._answer(before.add(question), self._path[:asked])

    def undo(self) -> str:
        """Take back the last question with its answer, if it got one; returns it, or "" where there is none."""
        if self.unanswered:
            taken, self.unanswered = self.unanswered, ""
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
        self.conversation = Conversation().with_system(self.conversation.system)
        self._recorder = Recorder(self._store)
        self._path, self.unanswered, self.last = (), "", None

    def set_system(self, text: str) -> None:
        """Put the conversation under another system message; an empty text removes it."""
        self.conversation = self.conversation.with_system(text)
        self._recorder.set_system(text)

    @property
    def _head(self) -> int | None:
        return self._path[-1] if self._path else None

    def _resume(self, conversation_id: str, system: str | None) -> None:
        stored = self._store.load(conversation_id)
        self._recorder = Recorder(self._store, conversation_id=stored.id)
        answered = stored.messages
        if answered and answered[-1].role == "user":
            self.unanswered = answered[-1].text
            answered = answered[:-1]
        spoken = tuple(Message(m.role, m.text, m.reasoning) for m in answered)
        self.conversation = Conversation(spoken).with_system(stored.system)
        self._path = tuple(m.id for m in answered)
        if system is not None:
            self.set_system(system)

    def _answer(self, asked: Conversation, path: tuple[int, ...]) -> Generator[Event]:
        """Stream the answer to `asked`, whose messages have the rows `path`; in any case keep what was shown."""
        text: list[str] = []
        reasoning: list[str] = []
        finished: Finished | None = None
        # A seed is drawn here, not in the engine, so that it is stored and the reply can be made again.
        seed = secrets.randbits(32) if self.settings.seed is None else self.settings.seed
        settings = replace(self.settings, seed=seed)
        row = self._recorder.begin_reply(path[-1], self.engine.facts, settings)
        try:
            with closing(self.engine.stream(asked, settings)) as events:
                for event in events:
                    match event:
                        case Text(piece):
                            text.append(piece)
                            self._recorder.piece(piece, "")
                        case Reasoning(piece):
                            reasoning.append(piece)
                            self._recorder.piece("", piece)
                        case Finished():
                            finished = event
                    yield event
                    yield from self._lost_history()
        except (GeneratorExit, KeyboardInterrupt):
            finished = finished or Finished("cancelled")
            raise
        finally:
            self.last = finished or Finished("error")
            self._recorder.end_reply(self.last, "".join(text), "".join(reasoning), self.engine.facts, settings)
            if text or reasoning or self.last.reason in ("stop", "length"):
                self.conversation = asked.add(Message("assistant", "".join(text), "".join(reasoning)))
                self._path, self.unanswered = (*path, row), ""
            elif len(path) <= len(self._path):  # a retry: the earlier answer stands
                self._recorder.set_head(self._head)
            else:  # the stored talk ends with the question, so that it is offered when it is picked up
                self.unanswered = asked.messages[-1].text

    def _lost_history(self) -> Generator[Event]:
        if self._recorder.notice:
            yield Progress("saving", note=self._recorder.notice)
            self._recorder.notice = ""
