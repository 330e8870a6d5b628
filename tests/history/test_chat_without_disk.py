"""A chat whose history fails: it is said once, the chat goes on, and what was said can still be written out."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import HistoryError
from chatcli.generation import Finished, GenerationSettings, Progress, Text
from chatcli.history import database
from chatcli.history.export import FORMS, export
from chatcli.history.records import unstored
from chatcli.history.store import Store
from chatcli.session import Session

QUESTIONS = ("q1", "q2", "q3")
NOBODY = 65534

KILLED = """
import os, signal, sys
from pathlib import Path
from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import GenerationSettings, Reasoning, Text
from chatcli.history.store import Store
from chatcli.session import Session

script = [Reasoning("hm "), Reasoning("yes "), Text("one "), Text("two "), Text("three")]
for events in range(1, 6):
    if os.fork() == 0:
        session = Session(ScriptedEngine([script]), GenerationSettings(), Store.open(Path(sys.argv[1])))
        for number, event in enumerate(session.say(f"question {events}"), 1):
            if number == events:
                os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.wait()
    assert os.WTERMSIG(status) == signal.SIGKILL
"""

READ_ONLY = """
import os, sys
import secrets, hashlib, json
from pathlib import Path
from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import HistoryError
from chatcli.generation import GenerationSettings, Text
from chatcli.history.store import Store
from chatcli.session import Session

if os.getuid() == 0:
    os.setuid(int(sys.argv[2]))
path = Path(sys.argv[1])
store = Store.open_or_memory(path)
session = Session(ScriptedEngine(["answer"]), GenerationSettings(), store)
said = "".join(event.text for event in session.say("q") if isinstance(event, Text))
read = Store.open_to_read(path)
try:
    read.set_title(read.find("@1"), "x")
    refused = ""
except HistoryError as error:
    refused = str(error)
found = [hit.excerpt for hit in read.search("stored", 5)]
print(json.dumps([store.notice, session.notice, said, store.load(session.id).title, found, refused]))
"""


def chat(session: Session) -> list[str]:
    """Ask all the questions; returns the notes that the person saw."""
    return [e.note for q in QUESTIONS for e in session.say(q) if isinstance(e, Progress) and e.note]


def assert_all_can_be_written_out(session: Session) -> None:
    whole = unstored(session.conversation, "scripted", "title")
    assert [m.text for m in whole.messages] == ["q1", "a1", "q2", "a2", "q3", "a3"]
    for form in FORMS:
        assert all(text in export(whole, form) for text in ("q1", "a3"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with closing(Store.open(tmp_path / "history.db")) as store:
        yield Session(ScriptedEngine(["a1", "a2", "a3"]), GenerationSettings(), store)


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_kill_9_after_any_event_loses_nothing_that_was_shown(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    run(KILLED, file)
    with closing(Store.open(file)) as store:
        assert store.notice == ""
        for events in range(1, 6):
            talk = store.find(f"@{6 - events}")
            question, answer = store.load(talk).messages
            assert question.text == f"question {events}"
            assert answer.reasoning == "".join(["hm ", "yes "][:events])
            assert answer.text == "".join(["one ", "two ", "three"][: max(events - 2, 0)])
        assert len(store.search("one two", 9)) == 2, "what was cut is searched for like the rest"
        assert len(store.search("three", 9)) == 1


def test_a_full_database_is_said_once(session: Session) -> None:
    """SQLite's own SQLITE_FULL, from a limit of pages in place of a disk's."""
    database = session.store._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(HistoryError, match="room"):
        session.store.add_question(session.store.start("m", "", ""), None, "x" * 100_000)
    big = Session(ScriptedEngine(["a1" * 50_000, "a2", "a3"]), GenerationSettings(), session.store)
    notes = chat(big)
    assert len(notes) == 1 and "room" in notes[0]
    assert len(big.conversation.spoken) == 6


def test_a_lock_that_does_not_end_is_said_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.store._database.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(session.store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        notes = chat(session)
        assert len(notes) == 1 and "locked" in notes[0]
        assert_all_can_be_written_out(session)
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
        with closing(Store.open_or_memory(session.store.path)) as again:
            assert again.recent(5) == [], "a locked history can still be read"


def test_damage_in_mid_chat_is_said_once(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    with closing(Store.open(file)) as store:
        old = store.start("m", "", "")
        for _ in range(50):
            store.finish(store.begin_reply(old, store.add_question(old, None, "x" * 5000), "m"), Finished("stop"))
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = file.read_bytes()
    with closing(Store.open_or_memory(file)) as store:
        session = Session(ScriptedEngine(["a1", "a2", "a3"]), GenerationSettings(), store)
        notes = chat(session) + ([store.notice] if store.notice else [])
        assert len(notes) == 1 and "damaged" in notes[0]
        assert_all_can_be_written_out(session)
    kept = [each.read_bytes() for each in tmp_path.iterdir()]
    assert damaged in kept, "the damaged file is where it was or beside it, unchanged"


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs users")
def test_a_read_only_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can write anywhere, so the chat runs as nobody; without root the folder's mode is enough."""
    home = Path(tempfile.mkdtemp())
    file = home / "history.db"
    try:
        with closing(Store.open(file)) as store:
            store.add_question(store.start("m", "", ""), None, "what is stored")
        if os.getuid() == 0:
            os.chown(home, NOBODY, NOBODY)
            os.chown(file, NOBODY, NOBODY)
        file.chmod(0o400)
        home.chmod(0o500)
        notice, second, said, title, found, refused = json.loads(run(READ_ONLY, file, NOBODY))
    finally:
        home.chmod(0o700)
        shutil.rmtree(home)
    assert notice.startswith("This chat is not saved: ") and second == ""
    assert (said, title, found) == ("answer", "q", ["what is stored"])
    assert "cannot be read or written" in refused


def test_what_an_engine_shows_is_on_disk_before_it_is_shown(session: Session) -> None:
    for event in session.say("go"):
        if isinstance(event, Text):
            with closing(Store.open(session.store.path)) as other:
                assert other.load(session.id).messages[-1].text == event.text
