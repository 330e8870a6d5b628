"""`batch` as a shell sees it: order, errors a line, a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty_server import chunk, ending, serving, silent, stream
from waiting import until

BATCH = [sys.executable, "-m", "chatcli", "batch"]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def questions(path: Path, count: int) -> None:
    asked = ["How do I save a conversation?", "怎么撤销上一个问题？", "How do I leave?"]
    told = [json.dumps({"prompt": asked[n % 3], "id": f"q{n}"}, ensure_ascii=False) for n in range(count)]
    path.write_text("\n".join([*told, "{broken"]), encoding="utf-8")


def test_a_killed_batch_goes_on_with_nothing_lost_and_nothing_done_twice(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    """Whoever answers: here a server, of which no more comes until the first run is dead."""
    questions(tmp_path / "in.jsonl", 90)
    journal = tmp_path / "out.jsonl.part"
    replies = [stream(chunk(content=each), ending()) for each in ("Yes.", "没有", "It is.")] * 30
    with serving(*replies[:12], silent) as server:
        command = [*BATCH, "--server", server.url, str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")]
        running = subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE)
        until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 10)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        server.replies[:] = replies
        _goes_on(tmp_path, surroundings, command)


def _goes_on(tmp_path: Path, surroundings: dict[str, str], command: list[str]) -> None:
    journal = tmp_path / "out.jsonl.part"
    kept = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()[1:-1]]
    assert not (tmp_path / "out.jsonl").exists()

    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stdout == ""
    assert "1 of 91 lines have no answer" in done.stderr
    answers = lines(tmp_path / "out.jsonl")
    assert [answer["line"] for answer in answers] == list(range(1, 92))
    assert [answer.get("id") for answer in answers] == [f"q{n}" for n in range(90)] + [None]
    assert all(answer in answers for answer in kept)  # with the very times of the first run
    assert len({answer["text"] for answer in answers[:90]}) == 3
    assert "no JSON" in answers[-1]["error"]
    assert not journal.exists()

    again = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_a_model_that_cannot_be_had_leaves_no_output(tmp_path: Path, surroundings: dict[str, str]) -> None:
    questions(tmp_path / "in.jsonl", 1)
    command = [*BATCH, str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "./nowhere"]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert not (tmp_path / "out.jsonl").exists()
