"""Any order of operations leaves the conversation and the store the same, also after a kill in between."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatcli.conversation import Message
from chatcli.engines.scripted import ScriptedEngine, Step
from chatcli.errors import EngineError, UsageError
from chatcli.generation import Event, Finished, GenerationSettings, Reasoning, Text
from chatcli.history.store import Store
from chatcli.session import Session

SCRIPTS: list[str | list[Step]] = [
    "one two three",
    [Reasoning("hm"), Text("cut at "), Finished("length", 4, 2)],
    [Text("broken "), EngineError("no")],
    [EngineError("at once")],
    [Finished("stop", 4, 0)],
    [Reasoning("only thoughts"), Finished("length", 4, 2)],
    "你好，北京 是",
]


class Talk(RuleBasedStateMachine):
    """What a person can do to a session; the file is a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "history.db")
        self.session = Session(ScriptedEngine(SCRIPTS), GenerationSettings(), self.store, system="Be brief.")

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def _read(self, events: Generator[Event], count: int) -> None:
        with suppress(EngineError), closing(events):
            for _ in islice(events, count):
                self._stored_is_a_beginning()

    def _stored_is_a_beginning(self) -> None:
        """A kill at this moment loses nothing that was there before, and nothing it leaves is wrong."""
        with closing(Store.open(self.folder / "history.db")) as other:
            roles = [m.role for m in other.load(self.session.id).messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)

    @rule(text=st.sampled_from(["q", "who?", "再见"]), count=st.integers(0, 6))
    def say(self, text: str, count: int) -> None:
        self._read(self.session.say(text), count)

    @rule(count=st.integers(0, 6))
    def retry(self, count: int) -> None:
        self._read(self.session.retry(GenerationSettings(seed=1)), count)
        assert self.session.settings == GenerationSettings()

    @rule(count=st.integers(0, 6))
    def go_on(self, count: int) -> None:
        before = self.session.conversation.messages
        try:
            self._read(self.session.continue_(), count)
        except UsageError:
            assert self.session.unanswered or self.session.ended in ("stop", None)
            assert self.session.conversation.messages == before
            return
        after = self.session.conversation.messages
        if count:
            assert after[:-1] == before[:-1] and after[-1].text.startswith(before[-1].text)

    @rule()
    def undo(self) -> None:
        self.session.undo()

    @rule()
    def clear(self) -> None:
        self.session.clear()

    @rule(system=st.sampled_from(["", "Be kind."]))
    def set_system(self, system: str) -> None:
        self.session.set_system(system)

    @rule()
    def switch(self) -> None:
        self.session.switch(ScriptedEngine(SCRIPTS))
        self.session.settle()

    @precondition(lambda self: self.session.id)
    @rule(data=st.data())
    def branch(self, data: st.DataObject) -> None:
        branches = self.session.branches()
        assert sum(branch.current for branch in branches) <= 1
        if branches:
            chosen = data.draw(st.sampled_from(branches))
            self.session.switch_branch(chosen)
            assert [each.head for each in self.session.branches() if each.current] == [chosen.head]

    @precondition(lambda self: self.store.recent(1))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.session.resume(data.draw(st.sampled_from([each.id for each in self.store.recent(9)])))

    @invariant()
    def what_is_stored_is_what_is_said(self) -> None:
        session = self.session
        if not session.id:
            assert not session.conversation.spoken
            return
        with closing(Store.open(self.folder / "history.db")) as other:
            stored = other.load(session.id)
        asked = (Message("user", session.unanswered),) if session.unanswered else ()
        assert (
            tuple(Message(m.role, m.text, m.reasoning) for m in stored.messages) == session.conversation.spoken + asked
        )
        assert stored.system == session.conversation.system


Talk.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestTalk = Talk.TestCase
