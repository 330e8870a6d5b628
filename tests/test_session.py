"""Whatever happens in a turn: what was shown is what is saved, and the next turn works."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.conversation import Conversation, Message, ToolCall
from chatcli.engines.scripted import ScriptedEngine, Step, failing_after
from chatcli.errors import EngineError, UsageError
from chatcli.generation import Event, Finished, GenerationSettings, Progress, Reasoning, Text, ToolCalled
from chatcli.history.store import Store
from chatcli.session import Session

OPEN = GenerationSettings()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "history.db")) as opened:
        yield opened


def shown(events: Iterable[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Text))


def saved(store: Store, session: Session) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in store.load(session.id).messages]


def test_a_turn_is_kept_in_the_conversation_and_on_disk(store: Store) -> None:
    engine = ScriptedEngine(["Paris it is.", "Two million."])
    session = Session(engine, OPEN, store, system="Be brief.")
    assert shown(session.say("Capital of France?")) == "Paris it is."
    assert shown(session.say("People?")) == "Two million."
    expected = [
        ("user", "Capital of France?"),
        ("assistant", "Paris it is."),
        ("user", "People?"),
        ("assistant", "Two million."),
    ]
    assert saved(store, session) == expected
    assert [(m.role, m.text) for m in engine.asked[1].messages] == [("system", "Be brief."), *expected[:3]]
    assert session.last and session.last.reason == "stop"
    stored = store.load(session.id)
    assert (stored.title, stored.system) == ("Capital of France?", "Be brief.")
    assert stored.messages[-1].finish_reason == "stop"


def test_the_question_is_on_disk_before_the_model_starts(store: Store, tmp_path: Path) -> None:
    session = Session(ScriptedEngine(["late"]), OPEN, store)
    with closing(session.say("first")) as events:
        next(events)
        with closing(Store.open(tmp_path / "history.db")) as other:
            assert other.load(session.id).messages[0].text == "first"


@pytest.mark.parametrize("events", range(8))
def test_an_engine_that_breaks_after_any_event_loses_nothing_that_was_shown(store: Store, events: int) -> None:
    script = failing_after(events, "one two three four five")
    session = Session(ScriptedEngine([script, "fine"]), OPEN, store)
    seen = ""
    with pytest.raises(EngineError):
        for event in session.say("go"):
            seen += event.text if isinstance(event, Text) else ""
    if seen:
        assert saved(store, session) == [("user", "go"), ("assistant", seen)]
        assert session.conversation.messages[-1] == Message("assistant", seen)
        assert store.load(session.id).messages[-1].finish_reason == ("error" if events < 7 else "stop")
    else:
        assert session.conversation == Conversation()
        assert session.unanswered == "go"
        assert saved(store, session) == [("user", "go")]
    assert shown(session.say("again")) == "fine"
    assert session.unanswered == ""
    assert saved(store, session)[-2:] == [("user", "again"), ("assistant", "fine")]
    roles = [m.role for m in session.conversation.messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2)


@pytest.mark.parametrize("events", range(1, 7))
def test_closing_the_iterator_cancels_the_engine_and_keeps_what_was_shown(store: Store, events: int) -> None:
    engine = ScriptedEngine(["one two three four five"])
    session = Session(engine, OPEN, store)
    seen = ""
    with closing(session.say("go")) as stream:
        for _ in range(events):
            event = next(stream)
            seen += event.text if isinstance(event, Text) else ""
    assert engine.cancelled == 1
    assert session.last and (session.last.reason, session.last.prompt_tokens) == ("cancelled", 8)
    if seen:
        assert saved(store, session) == [("user", "go"), ("assistant", seen)]
        assert store.load(session.id).messages[-1].finish_reason == "cancelled"
    else:
        assert session.unanswered == "go"


def test_a_keyboard_interrupt_inside_the_engine_keeps_what_was_shown(store: Store) -> None:
    script: list[Step] = [Text("half a "), KeyboardInterrupt()]
    session = Session(ScriptedEngine([script]), OPEN, store)
    with pytest.raises(KeyboardInterrupt):
        list(session.say("go"))
    assert saved(store, session) == [("user", "go"), ("assistant", "half a ")]
    assert store.load(session.id).messages[-1].finish_reason == "cancelled"


def test_reasoning_is_stored_apart_from_the_answer(store: Store) -> None:
    script: list[Step] = [Reasoning("hm, "), Reasoning("yes"), Text("Yes."), Finished("stop")]
    session = Session(ScriptedEngine([script]), OPEN, store)
    list(session.say("really?"))
    assert session.conversation.messages[-1] == Message("assistant", "Yes.", "hm, yes")
    assert store.load(session.id).messages[-1].reasoning == "hm, yes"


def test_an_answer_that_asks_for_a_tool_is_kept_with_its_call_in_the_talk(store: Store) -> None:
    """A face offers none, but an engine may answer so, and the turn must end as any other."""
    call = ToolCall("1", "stop")
    session = Session(ScriptedEngine([[Text("Well."), ToolCalled(call), Finished("tool_calls")], "ok"]), OPEN, store)
    assert shown(session.say("q")) == "Well."
    assert session.conversation.messages[-1] == Message("assistant", "Well.", calls=(call,))
    assert store.load(session.id).messages[-1].finish_reason == "tool_calls"
    assert shown(session.say("r")) == "ok"


def test_retry_asks_the_same_again_and_keeps_the_earlier_answer_stored(store: Store) -> None:
    engine = ScriptedEngine(["first answer", "second answer"])
    session = Session(engine, OPEN, store)
    list(session.say("q"))
    assert shown(session.retry()) == "second answer"
    assert engine.asked[0] == engine.asked[1]
    assert saved(store, session) == [("user", "q"), ("assistant", "second answer")]
    assert [m.text for m in session.conversation.messages] == ["q", "second answer"]


def test_a_retry_that_fails_at_once_leaves_the_first_answer_in_place(store: Store) -> None:
    session = Session(ScriptedEngine(["good", [EngineError("no")]]), OPEN, store)
    list(session.say("q"))
    with pytest.raises(EngineError):
        list(session.retry())
    assert saved(store, session) == [("user", "q"), ("assistant", "good")]


def test_a_retry_after_a_failed_retry_asks_the_question_once(store: Store) -> None:
    engine = ScriptedEngine(["good", [EngineError("no")], "better"])
    session = Session(engine, OPEN, store)
    list(session.say("q"))
    with pytest.raises(EngineError):
        list(session.retry())
    assert session.unanswered == ""
    list(session.retry())
    assert [m.text for m in engine.asked[2].messages] == ["q"]
    assert [m.text for m in session.conversation.messages] == ["q", "better"]


def test_undo_takes_back_an_unanswered_question_first(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", [EngineError("no")], "a3"]), OPEN, store)
    list(session.say("q1"))
    with pytest.raises(EngineError):
        list(session.say("q2"))
    assert session.undo() == "q2"
    assert session.unanswered == ""
    assert saved(store, session) == [("user", "q1"), ("assistant", "a1")]
    assert session.undo() == "q1"


CUT: list[Step] = [Reasoning("hm"), Text("Half an "), Finished("length", 8, 3)]


def test_a_reply_that_was_cut_goes_on_in_the_same_message(store: Store) -> None:
    engine = ScriptedEngine([CUT, "answer."])
    session = Session(engine, OPEN, store, system="s")
    list(session.say("q"))
    assert shown(session.continue_()) == "answer."
    assert engine.asked[1].messages[-1] == Message("assistant", "Half an ", "hm")
    assert session.conversation.messages[-1] == Message("assistant", "Half an answer.", "hm")
    (_, reply) = store.load(session.id).messages
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Half an answer.", "hm", "stop")
    assert len(store.branches(session.id)) == 1


def test_going_on_that_fails_at_once_changes_nothing(store: Store) -> None:
    session = Session(ScriptedEngine([CUT, [EngineError("no")], "answer."]), OPEN, store)
    list(session.say("q"))
    with pytest.raises(EngineError):
        list(session.continue_())
    (_, reply) = store.load(session.id).messages
    assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("Half an ", "length", 3)
    assert session.ended == "length"
    assert shown(session.continue_()) == "answer."


def test_a_reply_is_gone_on_with_after_a_crash_too(store: Store, tmp_path: Path) -> None:
    before = Session(ScriptedEngine(["one two three four"]), OPEN, store)
    stream = before.say("q")
    for _ in range(4):
        next(stream)
    with closing(Store.open(tmp_path / "history.db")) as other:  # as if the process were gone now
        session = Session(ScriptedEngine(["one two three four"]), OPEN, other, resume=before.id)
        assert session.ended is None
        list(session.continue_())
        assert saved(other, session) == [("user", "q"), ("assistant", "one two three four")]
    del stream


def test_what_is_complete_or_not_there_cannot_be_gone_on_with(store: Store) -> None:
    engine = ScriptedEngine(["whole", [EngineError("no")]])
    session = Session(engine, OPEN, store)
    with pytest.raises(UsageError, match="no reply"):
        list(session.continue_())
    list(session.say("q"))
    with pytest.raises(UsageError, match="complete"):
        list(session.continue_())
    with pytest.raises(EngineError):
        list(session.say("q2"))
    with pytest.raises(UsageError, match="no reply"):
        list(session.continue_())
    assert len(engine.asked) == 2


def test_a_stopped_reply_has_numbers(store: Store) -> None:
    clock = iter(range(100))
    steps: list[Step] = [
        Progress("reading", 6, 8),
        Progress("writing", 1),
        Text("a"),
        Progress("writing", 2),
        Text("b"),
    ]
    session = Session(ScriptedEngine([[*steps, Text("c")]]), OPEN, store, monotonic=lambda: float(next(clock)))
    with closing(session.say("q")) as events:
        while next(events) != Text("b"):
            pass
    assert session.last
    assert (session.last.reason, session.last.prompt_tokens, session.last.cached_tokens) == ("cancelled", 8, 6)
    assert session.last.completion_tokens == 2
    assert session.last.seconds > 0 and session.last.seconds_to_first > 0
    assert session.used == 10


def test_retry_with_other_settings_has_them_this_once(store: Store) -> None:
    used: list[float | None] = []

    class Listening(ScriptedEngine):
        def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
            used.append(settings.temperature)
            return super().stream(conversation, settings)

    session = Session(Listening(["a", "b", "c"]), GenerationSettings(temperature=0.5), store)
    list(session.say("q"))
    list(session.retry(GenerationSettings(temperature=1.5)))
    list(session.retry())
    assert used == [0.5, 1.5, 0.5]


def test_every_answer_is_a_branch_that_can_be_gone_back_to(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", "a2", "a3", "b1"]), OPEN, store)
    list(session.say("q1"))
    list(session.retry())
    list(session.say("q2"))
    session.undo()
    list(session.say("other q2"))
    branches = session.branches()
    assert [(b.turns, b.words, b.current) for b in branches] == [(1, "a1", False), (2, "a3", False), (2, "b1", True)]
    session.switch_branch(branches[1])
    assert [m.text for m in session.conversation.messages] == ["q1", "a2", "q2", "a3"]
    session.undo()
    assert [b.words for b in session.branches() if b.current] == ["a2"]
    list(session.say("q2 again"))
    assert len(session.branches()) == 4


def test_a_question_without_an_answer_is_a_branch_of_its_own(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", [EngineError("no")], "a2"]), OPEN, store)
    list(session.say("q1"))
    with pytest.raises(EngineError):
        list(session.say("q2"))
    assert [(b.words, b.model, b.current) for b in session.branches()] == [("q2", "scripted", True)]
    list(session.retry())
    session.switch_branch(session.branches()[0])
    assert session.unanswered == "q2"


class Closable(ScriptedEngine):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_another_model_goes_on_with_the_talk_and_the_old_one_stays_until_it_is_there(store: Store) -> None:
    old, new, third = Closable(["a1"]), Closable(["a2"]), Closable(["a3"])
    session = Session(old, OPEN, store)
    list(session.say("q1"))
    session.switch(new)
    session.switch(third)
    assert (old.closed, new.closed) == (False, True)
    assert session.switch_back()
    assert session.engine is old and third.closed
    assert not session.switch_back()
    again = Closable(["a4"])
    session.switch(again)
    session.settle()
    assert old.closed and not again.closed
    list(session.say("q2"))
    assert [m.text for m in again.asked[0].messages] == ["q1", "a1", "q2"]


def test_a_title_is_kept_and_needs_a_conversation(store: Store) -> None:
    session = Session(ScriptedEngine(["a"]), OPEN, store)
    with pytest.raises(UsageError, match="nothing to name"):
        session.set_title("x")
    list(session.say("q"))
    session.set_title("Holidays\nin Rome")
    assert store.load(session.id).title == "Holidays in Rome"


def test_retry_with_nothing_asked_streams_nothing(store: Store) -> None:
    engine = ScriptedEngine(["x"])
    assert list(Session(engine, OPEN, store).retry()) == []
    assert engine.asked == []


def test_undo_takes_back_one_exchange_here_and_on_disk(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", "a2", "a3"]), OPEN, store, system="s")
    list(session.say("q1"))
    list(session.say("q2"))
    assert session.undo() == "q2"
    assert saved(store, session) == [("user", "q1"), ("assistant", "a1")]
    list(session.say("q3"))
    assert saved(store, session) == [("user", "q1"), ("assistant", "a1"), ("user", "q3"), ("assistant", "a3")]
    assert session.undo() == "q3"
    assert session.undo() == "q1"
    assert session.undo() == ""
    assert session.conversation.system == "s"


def test_clear_begins_a_conversation_of_its_own(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", "a2"]), OPEN, store, system="s")
    list(session.say("q1"))
    first = session.id
    session.clear()
    assert session.id == ""
    list(session.say("q2"))
    assert session.id != first
    assert saved(store, session) == [("user", "q2"), ("assistant", "a2")]
    assert store.load(first).messages[1].text == "a1"
    assert store.load(session.id).system == "s"


def test_a_stored_conversation_goes_on_where_it_was(store: Store) -> None:
    before = Session(ScriptedEngine(["a1"]), OPEN, store, system="s")
    list(before.say("q1"))
    engine = ScriptedEngine(["a2"])
    session = Session(engine, OPEN, store, resume=before.id)
    list(session.say("q2"))
    assert [m.text for m in engine.asked[0].messages] == ["s", "q1", "a1", "q2"]
    assert session.id == before.id
    assert [text for _, text in saved(store, session)] == ["q1", "a1", "q2", "a2"]


def test_a_conversation_that_ended_with_a_question_offers_it_again(store: Store) -> None:
    """As after a kill -9 while the prompt was being read."""
    conversation = store.start("m", "", "")
    store.begin_reply(conversation, store.add_question(conversation, None, "never answered"), "m")
    session = Session(ScriptedEngine(["at last"]), OPEN, store, resume=conversation)
    assert session.unanswered == "never answered"
    assert shown(session.retry()) == "at last"
    assert saved(store, session) == [("user", "never answered"), ("assistant", "at last")]


def test_when_the_store_fails_the_chat_goes_on_and_says_so_once(store: Store) -> None:
    session = Session(ScriptedEngine(["a1", "a2", "a3"]), OPEN, store)
    list(session.say("q1"))
    store.close()
    notes = [e.note for q in ("q2", "q3") for e in session.say(q) if isinstance(e, Progress) and e.note]
    assert len(notes) == 1
    assert "history" in notes[0].lower()
    assert [m.text for m in session.conversation.messages] == ["q1", "a1", "q2", "a2", "q3", "a3"]
    assert session.undo() == "q3"
