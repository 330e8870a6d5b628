"""A history that the first chatcli wrote is taken over whole."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.history.migrations import MIGRATIONS
from chatcli.history.store import Store

VERSION_1 = Path(__file__).parent.parent / "golden" / "history_v1.db"


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "history.db"
    shutil.copy(VERSION_1, file)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    yield file


def test_the_first_version_opens_with_all_that_is_in_it(old: Path) -> None:
    with closing(Store.open(old)) as store:
        assert store.notice == ""
        assert [(each.title, each.turns) for each in store.recent(5)] == [("never answered", 1), ("Where is Rome?", 2)]
        stored = store.load(store.find("@2"), branches=True)
        assert [each.text for each in stored.messages] == [
            "Where is Rome?",
            "In Italy.",
            "巴黎在哪里？",
            "巴黎是法国的",
        ]
        assert [each.text for each in stored.others] == ["在法国。"]
        assert stored.messages[1].reasoning == "a city"
        assert (stored.messages[1].settings, stored.messages[1].revision) == ({}, "")
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_older_than_the_index_is_found(old: Path) -> None:
    with closing(Store.open(old)) as store:
        for query in ("法国", "italy", "answered", "是"):
            assert len(store.search(query, 5)) == 1, query


def test_it_goes_on_in_a_conversation_of_the_first_version(old: Path) -> None:
    with closing(Store.open(old)) as store:
        talk = store.find("@1")
        head = store.load(talk).messages[-1].id
        store.append(store.begin_reply(talk, head, "m"), "at last")
        assert [each.text for each in store.load(talk).messages] == ["never answered", "at last"]
        assert store.delete([talk]) == 1
        assert [each.title for each in store.recent(5)] == ["Where is Rome?"]
