"""What breaks histories: kill -9, a full disk, a damaged file, other processes. Each for real."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatcli.errors import HistoryError
from chatcli.generation import Finished
from chatcli.history import database
from chatcli.history.store import Store

WRITER = """
import sys
from pathlib import Path
from chatcli.generation import Finished
from chatcli.history.store import Store

store = Store.open(Path(sys.argv[1]))
talk = store.start("m", "", "")
print(talk, flush=True)
parent = None
for turn in range(int(sys.argv[2])):
    asked = store.add_question(talk, parent, f"question {turn}")
    print("asked", turn, flush=True)
    parent = store.begin_reply(talk, asked, "m")
    for piece in range(20):
        store.append(parent, f"[{turn}.{piece}]", "")
        print("piece", turn, piece, flush=True)
    store.finish(parent, Finished("stop"))
print("done", flush=True)
"""

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from chatcli.errors import HistoryError
from chatcli.history.store import Store

store = Store.open(Path(sys.argv[1]))
talk = store.start("m", "", "")
asked = store.add_question(talk, None, "question")
reply = store.begin_reply(talk, asked, "m")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
kept = 0
try:
    for _ in range(1000):
        store.append(reply, "x" * 5000, "")
        kept += 5000
except HistoryError as error:
    print(error)
assert len(store.load(talk).messages[-1].text) == kept, "reading still works and shows what was kept"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append(reply, "y", "")
print(kept)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def intact(file: Path) -> bool:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


@pytest.mark.slow
def test_after_kill_9_everything_acknowledged_is_there(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    chance = random.Random(7)
    for _ in range(10):
        process = start(WRITER, file, 10_000)
        assert process.stdout
        talk = process.stdout.readline().strip()
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        lines = [line.split() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        assert intact(file)
        store = Store.open(file)
        assert store.notice == ""
        said = "".join(message.text for message in store.load(talk).messages)
        for line in lines:
            expected = f"question {line[1]}" if line[0] == "asked" else f"[{line[1]}.{line[2]}]"
            assert expected in said
        store.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    processes = [start(WRITER, file, 4) for _ in range(2)]
    ids = []
    for process in processes:
        output, _ = process.communicate()
        lines = output.splitlines()
        assert lines[-1] == "done"
        ids.append(lines[0])
    store = Store.open(file)
    for talk in ids:
        messages = store.load(talk).messages
        assert [m.text for m in messages if m.role == "user"] == [f"question {turn}" for turn in range(4)]
        assert messages[-1].text == "".join(f"[3.{piece}]" for piece in range(20))
    store.close()
    assert intact(file)


def test_a_full_disk_is_one_sentence_and_room_makes_it_work_again(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    file = tmp_path / "history.db"
    output, _ = start(FULL_DISK, file).communicate()
    sentence, kept = output.splitlines()
    assert str(file) in sentence
    assert "room" in sentence
    assert int(kept) > 0
    store = Store.open(file)
    assert store.load(store.find("@1")).messages[-1].text == "x" * int(kept) + "y"
    store.close()


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "history.db"
    file.write_bytes(damage)
    store = Store.open(file, now=lambda: 0.0)
    aside = tmp_path / "history.db.corrupt-19700101-000000"
    assert str(aside) in store.notice
    assert aside.read_bytes() == damage
    assert store.load(store.start("m", "", "")).messages == ()
    store.close()
    again = Store.open(file)
    assert (again.notice, len(again.recent(5))) == ("", 1)
    again.close()


@pytest.mark.parametrize("damage", [b"no database" * 99, b"SQLite format 3\0" + b"\xff" * 4080])
def test_the_log_goes_with_the_damaged_file_and_nothing_is_overwritten(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "history.db"
    contents = {"": damage, "-wal": b"its log" * 99}
    earlier = tmp_path / "history.db.corrupt-19700101-000000"
    earlier.write_bytes(b"damaged before")
    for suffix, content in contents.items():
        Path(f"{file}{suffix}").write_bytes(content)
    Store.open(file, now=lambda: 0.0).close()
    assert earlier.read_bytes() == b"damaged before"
    for suffix, content in contents.items():
        assert Path(f"{earlier}-2{suffix}").read_bytes() == content


OPENS_AT_ONCE = """
import sys, time
from pathlib import Path
from chatcli.history.store import Store
print("ready", flush=True)
sys.stdin.readline()
store = Store.open(Path(sys.argv[1]))
talk = store.start("m", "", "")
store.add_question(talk, None, "hello")
print(talk)
print(bool(store.notice))
"""


def test_of_several_that_meet_the_same_damage_one_moves_it_and_all_go_on(tmp_path: Path) -> None:
    for attempt in range(3):
        file = tmp_path / str(attempt) / "history.db"
        file.parent.mkdir()
        file.write_bytes(b"this is no database" * 100)
        command = [sys.executable, "-c", OPENS_AT_ONCE, str(file)]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for process in processes:
            assert process.stdout and process.stdout.readline() == "ready\n"
            assert process.stdin
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate()[0].split() for process in processes]
        aside = [each for each in file.parent.iterdir() if "corrupt" in each.name]
        assert [each.read_bytes() for each in aside] == [b"this is no database" * 100]
        assert [said for _, said in outputs].count("True") == 1
        store = Store.open(file)
        assert {each.id for each in store.recent(9)} == {talk for talk, _ in outputs}
        store.close()


def test_damage_met_while_reading_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    store = Store.open(file)
    talk = store.start("m", "", "")
    reply = store.begin_reply(talk, store.add_question(talk, None, "q"), "m")
    store.append(reply, "x" * 100_000)
    store.finish(reply, Finished("stop"))
    store.close()
    content = file.read_bytes()
    file.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    store = Store.open(file)
    with pytest.raises(HistoryError, match="damaged"):
        store.load(talk)
    store.close()


@pytest.mark.parametrize("place", ["file/data/history.db", "file/history.db"])
def test_a_place_that_cannot_be_falls_back_to_memory(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(HistoryError, match="CHATCLI_HOME"):
        Store.open(tmp_path / place)
    store = Store.open_or_memory(tmp_path / place)
    assert store.notice.startswith("This chat is not saved")
    talk = store.start("m", "", "")
    store.add_question(talk, None, "q")
    assert store.find("@1") == talk
    store.close()


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "history.db").mkdir()
    assert Store.open_or_memory(tmp_path / "history.db").notice


def test_a_lock_that_does_not_end_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    file = tmp_path / "history.db"
    store = Store.open(file)
    talk = store.start("m", "", "")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HistoryError, match="locked"):
        store.add_question(talk, None, "q")
    assert store.load(talk).messages == ()
    other.execute("ROLLBACK")
    store.add_question(talk, None, "q")
    assert [message.text for message in store.load(talk).messages] == ["q"]
    other.close()
    store.close()
