"""The store: a tree of messages, listed, found and loaded as it was said."""

from __future__ import annotations

import itertools
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatcli.errors import HistoryError, UsageError
from chatcli.generation import Finished
from chatcli.history.migrations import MIGRATIONS
from chatcli.history.store import Store
from chatcli.history.titles import TITLE_COLUMNS, title_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose clock goes one second further at every look."""
    clock = itertools.count(1000.0)
    store = Store.open(tmp_path / "data" / "history.db", now=lambda: next(clock))
    yield store
    store.close()


def say(store: Store, talk: str, parent: int | None, question: str, answer: str) -> tuple[int, int]:
    asked = store.add_question(talk, parent, question)
    reply = store.begin_reply(talk, asked, "m/odel")
    for piece in answer:
        store.append(reply, piece, "")
    store.finish(reply, Finished("stop", prompt_tokens=3, completion_tokens=len(answer)))
    return asked, reply


def texts(store: Store, talk: str) -> list[str]:
    return [message.text for message in store.load(talk).messages]


def test_what_was_said_is_loaded(store: Store) -> None:
    talk = store.start("m/odel", "abc123", "Be brief.")
    asked = store.add_question(talk, None, "你好\nsecond line")
    reply = store.begin_reply(talk, asked, "m/odel", "abc123", {"top_k": 5, "stop": ("a",)})
    store.append(reply, "", "hm")
    store.append(reply, "Hel", "m")
    store.append(reply, "lo")
    store.finish(reply, Finished("length", 7, 2, 5, 0.25, 1.5))
    stored = store.load(talk)
    assert (stored.id, stored.title, stored.model, stored.revision, stored.system) == (
        talk, "你好", "m/odel", "abc123", "Be brief."
    )  # fmt: skip
    assert stored.created_at < stored.updated_at
    question, answer = stored.messages
    assert (question.id, question.role, question.text, question.finish_reason) == (
        asked, "user", "你好\nsecond line", None
    )  # fmt: skip
    assert (answer.id, answer.role, answer.text, answer.reasoning) == (reply, "assistant", "Hello", "hmm")
    assert (answer.finish_reason, answer.prompt_tokens, answer.completion_tokens) == ("length", 7, 2)
    assert (answer.model, answer.revision, answer.settings) == ("m/odel", "abc123", {"top_k": 5, "stop": ["a"]})
    assert (answer.cached_tokens, answer.seconds_to_first, answer.seconds) == (5, 0.25, 1.5)
    assert (answer.parent_id, question.parent_id) == (asked, None)


def test_undo_and_retry_leave_everything_in_the_file(store: Store) -> None:
    talk = store.start("m", "", "")
    first = say(store, talk, None, "one", "1")
    second = say(store, talk, first[1], "two", "2")
    store.set_head(talk, first[1])
    assert texts(store, talk) == ["one", "1"]
    other = store.begin_reply(talk, first[0], "m")
    store.append(other, "uno")
    store.finish(other, Finished("stop"))
    assert texts(store, talk) == ["one", "uno"]
    store.set_head(talk, second[1])
    assert texts(store, talk) == ["one", "1", "two", "2"]
    store.set_head(talk, None)
    assert texts(store, talk) == []


def test_a_reply_without_a_word_leaves_the_question_to_ask_again(store: Store) -> None:
    talk = store.start("m", "", "")
    asked = store.add_question(talk, None, "why?")
    reply = store.begin_reply(talk, asked, "m")
    assert texts(store, talk) == ["why?"]
    store.finish(reply, Finished("stop"))
    assert texts(store, talk) == ["why?", ""]


def test_the_whole_reply_at_its_end_replaces_the_pieces(store: Store) -> None:
    talk = store.start("m", "", "")
    reply = store.begin_reply(talk, store.add_question(talk, None, "q"), "m")
    store.append(reply, "one ", "hm")
    store.finish(reply, Finished("cancelled"), text="one two\ud800", reasoning="hmm")
    answer = store.load(talk).messages[-1]
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("one two\ufffd", "hmm", "cancelled")


def test_the_system_message_can_change(store: Store) -> None:
    talk = store.start("m", "", "old")
    say(store, talk, None, "question", "answer")
    store.set_system(talk, "")
    assert store.load(talk).system == ""


def test_the_list_is_newest_first(store: Store) -> None:
    old, new = store.start("old/m", "", ""), store.start("new/m", "", "")
    say(store, new, None, "n1", "x")
    asked, reply = say(store, old, None, "o1", "x")
    say(store, old, reply, "o2", "x")
    assert [(each.id, each.title, each.model, each.turns) for each in store.recent(10)] == [
        (old, "o1", "m/odel", 2),
        (new, "n1", "m/odel", 1),
    ]
    assert store.find("@1") == old
    store.set_head(old, asked)
    assert store.recent(1)[0].turns == 1
    assert store.recent(0) == []


def test_an_empty_history(store: Store) -> None:
    assert store.recent(5) == []
    with pytest.raises(UsageError, match="no conversation yet"):
        store.find("@1")


def test_find(store: Store) -> None:
    ids = [store.start("m", "", "") for _ in range(40)]
    for talk in ids:
        assert store.find(talk) == store.find(talk.upper()) == talk
    assert store.find("@1") == ids[-1]
    assert store.find("@40") == ids[0]
    ambiguous = next(talk[0] for talk in ids if sum(other[0] == talk[0] for other in ids) > 1)
    with pytest.raises(UsageError, match="Several") as raised:
        store.find(ambiguous)
    assert any(talk in str(raised.value) for talk in ids)
    for wrong in ("u", "", "%", "_", "@41", "@0", "\ud800", "nothing"):
        with pytest.raises(UsageError):
            store.find(wrong)
    with pytest.raises(UsageError, match="nothing"):
        store.load("nothing")


def test_a_prefix_of_one_conversation_is_enough(store: Store) -> None:
    talk = store.start("m", "", "")
    assert store.find(talk[:1]) == talk
    with pytest.raises(UsageError):
        store.find("")


@given(text=st.text(st.characters(exclude_categories=()), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_text_comes_back_and_only_surrogates_are_replaced(store: Store, text: str) -> None:
    talk = store.start(text, text, text)
    _, reply = say(store, talk, None, text, "")
    store.append(reply, text, text)
    store.set_maker(reply, text, text, {"stop": text})
    valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    stored = store.load(talk)
    assert stored.messages[0].text == stored.messages[1].text == stored.messages[1].reasoning == valid
    assert stored.system == stored.model == stored.revision == valid


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n\n  Fix\tthe  bug \nmore", "Fix the bug"),
        ("", ""),
        ("\x1b]0;owned\x07hi", "]0;ownedhi"),
        ("a" * 60, "a" * 60),
        ("a" * 61, "a" * 59 + "…"),
        ("好" * 30, "好" * 30),
        ("好" * 31, "好" * 29 + "…"),
        ("word " * 20, ("word " * 12)[:59].rstrip() + "…"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert TITLE_COLUMNS == 60
    assert title_of(text) == title


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store.open(tmp_path / "new" / "data" / "history.db")
        store.start("m", "", "")
    finally:
        os.umask(before)
    folder = tmp_path / "new" / "data"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == {"history.db": 0o600, "history.db-wal": 0o600, "history.db-shm": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    store.close()


def test_it_opens_again(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    store = Store.open(file)
    talk = store.start("m", "", "")
    say(store, talk, None, "q", "a")
    store.close()
    store.close()
    again = Store.open(file)
    assert (texts(again, talk), again.notice) == (["q", "a"], "")
    again.close()


def test_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    Store.open(file).close()
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database.commit()
    database.close()
    with pytest.raises(HistoryError, match="upgrade chatcli"):
        Store.open(file)
    assert [each.name for each in tmp_path.iterdir() if "corrupt" in each.name] == []
    assert "upgrade chatcli" in Store.open_or_memory(file).notice


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """The second statement meets a table of another program; the first is taken back with it."""
    file = tmp_path / "history.db"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE messages (x)")
    database.close()
    with pytest.raises(HistoryError, match="messages already exists"):
        Store.open(file)
    database = sqlite3.connect(file)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("messages",)]
    database.close()


def test_the_pieces_of_a_reply_in_memory() -> None:
    store = Store.in_memory()
    talk = store.start("m", "", "")
    say(store, talk, None, "q", "abc")
    assert texts(store, talk) == ["q", "abc"]
    store.close()
