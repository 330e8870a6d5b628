"""Full text: words in any script, whatever characters a person types, and always what the messages say now."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatcli.generation import Finished
from chatcli.history.store import Store
from chatcli.history.words import EXCERPT_COLUMNS, excerpt, fts_query


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    clock = itertools.count(1000.0)
    with closing(Store.open(tmp_path / "history.db", now=lambda: next(clock))) as opened:
        yield opened


def say(store: Store, question: str, answer: str = "") -> str:
    talk = store.start("m", "", "")
    reply = store.begin_reply(talk, store.add_question(talk, None, question), "m")
    store.append(reply, answer)
    store.finish(reply, Finished("stop"))
    return talk


@pytest.mark.parametrize(
    ("text", "found", "not_found"),
    [
        (
            "The quick brown fox",
            ["quick", "QUICK fox", "fox the", "qui", "brow"],
            ["qu", "quicker", "fox hound", "rown"],
        ),
        ("巴黎是法国的首都", ["巴", "巴黎", "首都", "法国的", "都", "巴黎 首都"], ["黎巴", "伦敦", "巴黎法国"]),
        ("東京タワーへ行った", ["東", "タワー", "京タ", "行った"], ["タ行"]),
        ("서울은 한국의 수도이다", ["서", "서울", "한국", "수도"], ["울서"]),
        ("用Python编程很好", ["python", "编程", "Python编程", "用pyt"], ["编好"]),
        ("Le café déjà vu", ["cafe", "CAFÉ", "deja"], []),
        (
            'see foo-bar.py and C++ (a*b) "quoted" it\'s',
            ["foo-bar", "foo-bar.py", "c++", "a*b", '"quoted"', "it's"],
            ["bar-foo"],
        ),
        ("The rocket 🚀 flies", ["🚀", "rocket 🚀"], ["🛸"]),
        ("rocket🚀🚀! ❤️ 👩‍🚀", ["🚀", "🚀🚀", "rocket", "❤", "❤️", "👩‍🚀", "rocket🚀"], ["🚀👩", "👩‍🌾", "💔"]),
        ("𠮷野家へ", ["𠮷", "𠮷野"], []),
    ],
)
def test_what_is_found(store: Store, text: str, found: list[str], not_found: list[str]) -> None:
    say(store, "something else", "别的")
    talk = say(store, text)
    for query in found:
        assert [hit.conversation.id for hit in store.search(query, 5)] == [talk], query
    for query in not_found:
        assert store.search(query, 5) == [], query


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "'",
        '""',
        "a AND",
        "OR",
        "NOT x",
        "NEAR(a b)",
        "spaced : x",
        "-x",
        "*",
        "^a",
        "(",
        "a\0b",
        "{a b} : c",
        ",",
        "\ud800",
    ],
)
def test_no_character_is_an_operator(store: Store, query: str) -> None:
    say(store, "plain words")
    assert store.search(query, 5) == []


def test_operators_are_words_to_be_found(store: Store) -> None:
    talk = say(store, "this AND that, NOT (near) those")
    assert [hit.conversation.id for hit in store.search("AND NOT near", 5)] == [talk]


@given(query=st.text(st.characters(exclude_categories=()), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_text_is_a_query(store: Store, query: str) -> None:
    store.search(query, 5)


@given(text=st.text(alphabet="北京上海，ab c", min_size=1, max_size=12), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_every_part_of_a_run_of_chinese_is_found(store: Store, text: str, data: st.DataObject) -> None:
    talk = say(store, text)
    start = data.draw(st.integers(0, len(text) - 1))
    part = text[start : data.draw(st.integers(start + 1, len(text)))]
    if all(character in "北京上海" for character in part):
        assert talk in [hit.conversation.id for hit in store.search(part, 1000)]


def test_the_newest_come_first_and_one_a_conversation(store: Store) -> None:
    first, second = say(store, "apple", "apple apple"), say(store, "apple pie")
    assert [hit.conversation.id for hit in store.search("apple", 5)] == [second, first]
    assert [hit.conversation.id for hit in store.search("apple", 1)] == [second]


def test_the_excerpt_marks_what_was_found(store: Store) -> None:
    say(store, "q", "Long before. " * 30 + "Then the café,\nand Café again. " + "Long after. " * 30)
    (hit,) = store.search("cafe", 5)
    assert [hit.excerpt[start:end] for start, end in hit.marks] == ["café", "Café"]
    assert hit.excerpt.startswith("…") and hit.excerpt.endswith("…") and "\n" not in hit.excerpt
    assert hit.role == "assistant"


@given(text=st.text(max_size=300), query=st.text(max_size=10))
def test_an_excerpt_is_one_short_line_whose_marks_are_in_it(text: str, query: str) -> None:
    line, marks = excerpt(text, query)
    assert "\n" not in line and len(line) <= len(text) + 2
    ends = [place for mark in marks for place in mark]
    assert ends == sorted(ends) and all(0 <= place <= len(line) for place in ends)
    assert len(line) <= EXCERPT_COLUMNS + 2 or not line.isascii()


def test_a_title_that_a_person_chose_is_found(store: Store) -> None:
    talk = say(store, "hello")
    store.set_title(talk, "  Holiday\nplans ")
    (hit,) = store.search("plans holiday", 5)
    assert (hit.conversation.title, hit.message_id, hit.excerpt) == ("Holiday plans", 0, "Holiday plans")


def test_a_reply_that_is_being_streamed_is_found_and_again_when_it_has_grown(store: Store) -> None:
    """As after a kill -9 in the middle of it: nobody will finish it."""
    talk = store.start("m", "", "")
    reply = store.begin_reply(talk, store.add_question(talk, None, "q"), "m")
    store.append(reply, "alpha ")
    assert len(store.search("alpha", 5)) == 1
    store.append(reply, "beta")
    assert [hit.excerpt for hit in store.search("beta", 5)] == ["alpha beta"]
    store.finish(reply, Finished("stop"), text="gamma")
    assert store.search("alpha", 5) == store.search("beta", 5) == []
    assert len(store.search("gamma", 5)) == 1


def test_what_is_removed_is_not_found_and_leaves_the_index_whole(store: Store) -> None:
    talk, other = say(store, "apple", "苹果"), say(store, "apple", "梨")
    store.append(store.begin_reply(talk, store.load(talk).messages[0].id, "m"), "apple again")
    assert store.delete([talk, "nothing"]) == 1
    assert [hit.conversation.id for hit in store.search("apple", 5)] == [other]
    assert store.search("苹果", 5) == []
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        for table in ("messages", "pieces"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (2 if table == "messages" else 0,)


def test_the_questions_asked_of_the_tables_use_their_indexes(store: Store) -> None:
    """A scan of 100,000 conversations or of all messages would be slow."""
    plans: list[str] = []
    database = store._database
    queries: list[str] = []
    talk = say(store, "apple")
    database.set_trace_callback(queries.append)
    store.recent(5), store.find("@1"), store.find(talk[:4]), store.load(talk), store.search("apple", 5)
    store.branches(talk)
    store.delete([talk])
    database.set_trace_callback(None)
    for query in {query for query in queries if query.lstrip().startswith(("SELECT", "WITH", "DELETE", "UPDATE"))}:
        plans += [f"{row[3]} in {query}" for row in database.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert plans
    scans = [plan for plan in plans if plan.startswith("SCAN") and " USING " not in plan.split(" in ")[0]]
    allowed = ("SCAN words VIRTUAL", "SCAN path", "SCAN pieces", "SCAN (subquery", "SCAN CONSTANT")
    assert [plan for plan in scans if not plan.startswith(allowed)] == []


@pytest.mark.parametrize("query", ["🚀", "🤖🦊", "❤️", "🇩🇪", "✅"])
def test_emoji_are_in_the_index(query: str) -> None:
    """What is not is looked for in every text, which takes seconds in a long history."""
    assert fts_query(query)
