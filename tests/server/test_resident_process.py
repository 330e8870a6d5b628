"""The process that keeps a model, for real: the shell's commands, two at once, kill -9, an older version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from waiting import until

from chatcli import sockets, wire
from chatcli.conversation import Conversation, Message
from chatcli.engines import resident
from chatcli.errors import EngineError
from chatcli.generation import Event, GenerationSettings, Text
from chatcli.load_request import NOTHING_SAID, LoadRequest, Lora
from chatcli.models.checkpoint import LoraFolder, open_checkpoint

pytestmark = pytest.mark.slow
ASKED = Conversation((Message("user", "How do I undo?"),))
GREEDY = GenerationSettings(temperature=0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path))
    monkeypatch.setenv("CHATCLI_KEEP_ALIVE", "1m")
    yield tmp_path
    for path, status in resident.statuses(tmp_path / "run"):
        resident.stop(path)
        gone(status.pid)


def started(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "chatcli", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def said(*arguments: str) -> str:
    process = started(*arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def gone(pid: int) -> None:
    """Wait until it has ended; a process closes its sockets a moment before."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        until(lambda: process.status() == psutil.STATUS_ZOMBIE)


def opened(spec: wire.Spec, home: Path) -> resident.ResidentEngine:
    place = home / "run"
    assert sockets.is_private(place)
    return resident.open_resident(spec, place, 60, lambda progress: None)


def test_two_calls_at_once_start_one_process_and_a_third_finds_what_it_has_read(home: Path) -> None:
    question = ("ask", "--json", "--temperature", "0", "How do I undo?")
    calls = [started(*question) for _ in range(2)]
    first, second = (json.loads(call.communicate()[0]) for call in calls)
    assert first["text"] == second["text"] != ""
    ((_, status),) = resident.statuses(home / "run")
    third = json.loads(said(*question))
    assert third["text"] == first["text"]
    assert third["usage"]["cached_tokens"] > min(each["usage"]["cached_tokens"] for each in (first, second)) == 0
    assert [each["pid"] for each in json.loads(said("ps", "--json"))] == [status.pid]
    said("stop", "guide")
    assert json.loads(said("ps", "--json")) == []
    gone(status.pid)


def text_of(events: Iterator[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_a_process_is_replaced_that_is_of_another_version_or_was_killed_and_a_stopped_one_says_so(
    home: Path, make_checkpoint: Callable[..., Path]
) -> None:
    """A killed one as long as nothing was shown of its answer."""
    endless = open_checkpoint(make_checkpoint(max_position_embeddings=20_000, eos_token_id=None))
    spec = resident.specify(endless, NOTHING_SAID, home / "config", os.environ)
    opened(replace(spec, version="0.0.1"), home)
    ((_, old),) = resident.statuses(home / "run")
    assert old.version == "0.0.1"

    engine = opened(spec, home)
    ((_, new),) = resident.statuses(home / "run")
    assert new.version == spec.version
    gone(old.pid)

    whole = list(engine.stream(ASKED, replace(GREEDY, max_new_tokens=8)))
    os.kill(new.pid, signal.SIGSTOP)  # or it would have answered before the other signal comes
    events = engine.stream(ASKED, replace(GREEDY, max_new_tokens=8))
    next(events)
    os.kill(new.pid, signal.SIGKILL)
    assert text_of(events) == text_of(iter(whole)) != ""
    ((_, third),) = resident.statuses(home / "run")
    assert third.pid != new.pid

    events = engine.stream(ASKED, GREEDY)
    assert any(isinstance(event, Text) for event in events)
    os.kill(third.pid, signal.SIGTERM)
    with pytest.raises(EngineError, match="was stopped in the middle of its answer"):
        list(events)


def test_what_is_wrong_with_a_model_is_said_by_who_asked(home: Path, tiny_llama: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_llama.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    process = started("ask", "-m", str(broken), "Hello?")
    out, err = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert "lacks" in err
    assert len(err.splitlines()) == 1
    until(lambda: resident.statuses(home / "run") == [])


def test_everything_that_makes_a_model_reaches_its_process(tiny_llama: Path, tmp_path: Path) -> None:
    """Found when GGUF files and adapters came: the process opened the folder alone."""
    checkpoint = replace(
        open_checkpoint(tiny_llama, "name + org/style=0.5", "commit"),
        trusted=True,
        loras=(LoraFolder("org/style", tmp_path, 0.5),),
        texts=tmp_path,
        base="name",
    )
    request = LoadRequest(dtype="float32", loras=(Lora("org/style", 0.5),), max_memory={0: 1, "cpu": 2})
    spec = wire.decode(wire.encode(resident.specify(checkpoint, request, tmp_path, {})))
    assert resident.specified(spec) == checkpoint
    assert spec.request == LoadRequest(dtype="float32", max_memory={0: 1, "cpu": 2})


def test_a_changed_file_is_another_model(home: Path, tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)

    def path() -> Path:
        return resident.socket_path(home, resident.specify(checkpoint, NOTHING_SAID, home / "config", {}))

    before = path()
    assert path() == before
    (home / "config").mkdir()
    (home / "config" / "adapters.toml").write_text("")
    assert path() != before
    (home / "config" / "adapters.toml").unlink()
    assert path() == before
    os.utime(tiny_llama / "tokenizer_config.json", ns=(1, 1))
    assert path() != before
