"""`chatcli serve --replicas 2` as its users have it: a process, HTTP, and replicas that die."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import open_local
from chatcli.generation import GenerationSettings, Text
from chatcli.models.checkpoint import open_checkpoint

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "docs" / "scale.md"
PATIENCE = 120.0
"""Seconds after which what does not come is taken for lost."""


@dataclass
class Server:
    """The process of `chatcli serve`, where it listens, and the folders of its models: both replicas hold the first."""

    process: subprocess.Popen[str]
    models: tuple[Path, ...]
    url: str = ""

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self) -> set[int]:
        return {each.pid for each in self.tree() if "ServeReplica" in _name(each)}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)


@dataclass
class Reply:
    """What came of one request: the pieces that were shown, and how it ended."""

    shown: list[str] = field(default_factory=list)
    finish: str = ""
    error: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def server(make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started as the example in docs/scale.md has it, with two more models."""
    home = tmp_path_factory.mktemp("home")
    (example,) = re.findall(r"^```sh\nchatcli (.*)\n```", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    models = tuple(make_checkpoint(max_position_embeddings=4096, seed=seed) for seed in range(3))
    command = [sys.executable, "-m", "chatcli", *example.replace("./my-finetune", " ".join(map(str, models))).split()]
    process = subprocess.Popen(
        [*command, "--port", "0"],
        env=os.environ | {"CHATCLI_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://[^ ;]+", line):
            yield Server(process, models, found[0])
            break
    process.terminate()
    process.communicate(timeout=PATIENCE)


def say(server: Server, *said: str, tokens: int = 30, first: threading.Event | None = None, model: int = 0) -> Reply:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    name = server.models[model].name
    asked = {"model": name, "messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True}
    reply = Reply()
    with (
        server.client() as client,
        client.stream("POST", "chat/completions", json=asked | {"stream_options": {"include_usage": True}}) as answer,
    ):
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            told = json.loads(line[6:])
            reply.error = reply.error or told.get("error", {}).get("message", "")
            reply.usage = told.get("usage") or reply.usage
            for choice in told.get("choices", ()):
                reply.finish = choice.get("finish_reason") or reply.finish
                if choice["delta"].get("content"):
                    reply.shown.append(choice["delta"]["content"])
                    if first:
                        first.set()
    return reply


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.1)


def test_a_talk_goes_on_where_its_cache_is(server: Server) -> None:
    """Six talks over two replicas: by chance one in 64 would do as well."""
    for number in range(6):
        question = f"{number}: " + "the quick brown fox jumps over the lazy dog " * 5
        answer = say(server, question)
        again = say(server, question, "".join(answer.shown), "And then?")
        assert again.finish == "length"
        assert again.usage["prompt_tokens_details"]["cached_tokens"] > 50


def test_each_model_answers_under_its_name_whichever_replica_holds_it(server: Server) -> None:
    """One of the two replicas holds the second model, the other one the third."""
    with server.client() as client:
        listed = [each["id"] for each in client.get("models").json()["data"]]
        vectors = client.post("embeddings", json={"model": listed[1], "input": ["Hello", "there"]}).json()
    assert listed == [each.name for each in server.models] and len(vectors["data"]) == 2
    for number in (2, 1, 2):
        with closing(open_local(open_checkpoint(server.models[number]), shipped(), lambda _: None)) as here:
            settings = GenerationSettings(temperature=0, max_new_tokens=8)
            events = list(here.stream(Conversation((Message("user", "Who are you?"),)), settings))
        alone = "".join(event.text for event in events if isinstance(event, Text))
        assert "".join(say(server, "Who are you?", tokens=8, model=number).shown) == alone


def test_nothing_of_it_is_open_to_others(server: Server) -> None:
    tree = server.tree()
    listening = {
        each.laddr.ip for process in tree for each in process.net_connections("inet") if each.status == "LISTEN"
    }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    raylet = next(each for each in tree if each.name() == "raylet")
    environment = raylet.environ()
    assert environment["RAY_AUTH_MODE"] == "token"
    assert not any(environment["RAY_AUTH_TOKEN"] in _name(process) for process in tree)
    sockets = next(Path(word.split("=")[1]) for word in raylet.cmdline() if word.startswith("--raylet_socket_name="))
    folder = next(each for each in sockets.parents if each.name.startswith("chatcli-ray-"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_replica_killed_under_load_loses_nothing_that_had_not_begun(server: Server) -> None:
    """And what had begun ends with an error that says so; another replica takes the place of the dead one."""
    before = server.replicas()
    assert len(before) == 2
    replies: list[Reply] = []
    first = threading.Event()

    def ask(number: int) -> None:
        replies.append(say(server, f"{number} " * 40, tokens=400, first=first))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(14)]
    for thread in asking:
        thread.start()
    assert first.wait(PATIENCE)
    os.kill(min(before), signal.SIGKILL)
    for thread in asking:
        thread.join(PATIENCE)
    assert len(replies) == 14
    lost = [reply for reply in replies if not reply.finish]
    assert [reply for reply in lost if not (reply.shown and reply.error)] == []
    assert [reply for reply in replies if reply.finish and len(reply.shown) < 2] == []
    until(lambda: len(server.replicas()) == 2)
    assert len(server.replicas() - before) == 1


def test_an_update_replaces_every_replica_while_they_answer(server: Server) -> None:
    before = server.replicas()
    server.process.send_signal(signal.SIGUSR1)
    answered = 0
    end = time.monotonic() + PATIENCE
    while server.replicas() & before or len(server.replicas()) < 2:
        assert time.monotonic() < end
        assert say(server, f"question {answered}").finish == "length"
        answered += 1
    assert answered


def test_a_signal_ends_all_of_it(server: Server) -> None:
    """Also in the middle of an update, which asks Ray for something all the time; the last test of the module."""
    before = server.replicas()
    server.process.send_signal(signal.SIGUSR1)
    until(lambda: server.replicas() != before)
    tree = server.tree()
    raylet = next(each for each in tree if each.name() == "raylet")
    folder = next(part for part in _name(raylet).split("/") if part.startswith("chatcli-ray-"))
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    psutil.wait_procs(tree)  # until every one of them has ended
    assert not [each for each in Path(os.environ.get("TMPDIR", "/tmp")).iterdir() if each.name == folder]
