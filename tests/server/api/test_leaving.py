"""Clients that leave, that come too many at once, that wait too long; and what the numbers say of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence

import httpx
import pytest
from api_server import serving, soon

from chatcli.conversation import Conversation
from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import Event, Finished, GenerationSettings, Made, Progress, Text
from chatcli.server.api.service import Limits

CLIENT = httpx.Client(timeout=60)
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "How are you?"}]}


class Endless(ScriptedEngine):
    """An engine that never comes to an end by itself: it reads for ever, or says what it `speaks` for ever."""

    def __init__(self, *, speaks: str = "") -> None:
        super().__init__([""])
        self.running = self.events = 0
        self.ends = threading.Event()
        self._event: Event = Text(speaks) if speaks else Progress("reading", 0, 9, "tokens")

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        self.running += 1
        try:
            while not self.ends.wait(0.01):
                self.events += 1
                yield self._event
            yield Finished("stop", 9, 5)
        except GeneratorExit:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def embed(self, texts: Sequence[str]) -> Generator[Made]:
        yield from self.stream(Conversation(), GenerationSettings())


@pytest.fixture
def reading() -> Iterator[tuple[Endless, str]]:
    engine = Endless()
    with serving({"m": engine}, limits=Limits(places=1, queue=1)) as address:
        yield engine, address
        engine.ends.set()


CHAT, VECTORS = "/v1/chat/completions", "/v1/embeddings"


def ask(address: str, *, stream: bool, unsent: int = 0, path: str = CHAT) -> socket.socket:
    """A client that has asked, but for so many bytes, and waits."""
    asked = {"input": "How are you?"} if path == VECTORS else {**QUESTION, "stream": stream}
    body = httpx.Request("POST", address + path, json=asked).read()
    host, _, port = address.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) - unsent])
    return client


def number(address: str, name: str) -> float:
    lines = CLIENT.get(f"{address}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("stream", "path"), [(True, CHAT), (False, CHAT), (False, VECTORS)], ids=["stream", "whole", "vectors"]
)
def test_a_client_that_leaves_frees_its_place(reading: tuple[Endless, str], stream: bool, path: str) -> None:
    engine, address = reading
    client = ask(address, stream=stream, path=path)
    assert soon(lambda: engine.running == 1)
    client.close()
    assert soon(lambda: engine.running == 0) and engine.cancelled == 1
    assert soon(lambda: CLIENT.get(f"{address}/health").json() == {"status": "ok", "running": 0, "waiting": 0})
    assert soon(lambda: number(address, "chatcli_cancelled_total") == 1)


def test_a_client_that_leaves_the_queue_is_never_answered(reading: tuple[Endless, str]) -> None:
    engine, address = reading
    first = ask(address, stream=True)
    assert soon(lambda: engine.running == 1)
    second = ask(address, stream=True)
    assert soon(lambda: CLIENT.get(f"{address}/health").json()["waiting"] == 1)
    for client in (second, first):
        client.close()
        assert soon(lambda: CLIENT.get(f"{address}/health").json()["waiting"] == 0)
    assert soon(lambda: engine.running == 0) and engine.cancelled == 1


def test_a_client_that_leaves_within_its_request_is_no_defect(capfd: pytest.CaptureFixture[str]) -> None:
    with serving({"m": ScriptedEngine(["Fine."])}) as address:
        client = ask(address, stream=True, unsent=5)
        client.close()
        assert soon(lambda: number(address, 'chatcli_requests_total{route="/v1/chat/completions",status="499"}') == 1)
    assert capfd.readouterr().err == ""


def test_too_many_are_told_to_come_back(reading: tuple[Endless, str]) -> None:
    engine, address = reading
    clients = [ask(address, stream=True) for _ in range(2)]
    assert soon(lambda: CLIENT.get(f"{address}/health").json() == {"status": "ok", "running": 1, "waiting": 1})
    refused = CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert number(address, "chatcli_waiting") == 1
    engine.ends.set()
    for client in clients:
        assert b"200 OK" in client.recv(100)
        client.close()


def test_a_client_that_does_not_read_holds_the_engine_up_and_not_the_memory() -> None:
    engine = Endless(speaks="on and on " * 20_000)

    def rests() -> bool:
        before = engine.events
        time.sleep(0.3)
        return engine.events == before > 0

    with serving({"m": engine}) as address:
        client = ask(address, stream=True)
        assert soon(rests)
        assert CLIENT.get(f"{address}/health").json()["running"] == 1  # others are served
        client.close()
        assert soon(lambda: engine.running == 0)


def test_an_answer_that_takes_too_long_is_ended() -> None:
    for speaks, stream, seconds in (("", False, 0.2), ("on and ", True, 5.0)):  # the second begins before that
        engine = Endless(speaks=speaks)
        with serving({"m": engine}, limits=Limits(seconds=seconds)) as address:
            answer = CLIENT.post(f"{address}/v1/chat/completions", json={**QUESTION, "stream": stream})
            assert "took longer than" in answer.text
            assert answer.status_code == (200 if stream else 408)
            if not stream:
                assert CLIENT.post(f"{address}{VECTORS}", json={"input": "x"}).status_code == 408
            assert soon(lambda: engine.running == 0)  # noqa: B023


@pytest.mark.parametrize("says", [True, False], ids=["progress", "nothing"])
def test_a_long_silence_is_kept_alive(monkeypatch: pytest.MonkeyPatch, says: bool) -> None:
    monkeypatch.setattr("chatcli.server.api.answering.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("chatcli.server.api.sending.KEEP_ALIVE", 0.05)

    class Slow(ScriptedEngine):
        def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
            for _ in range(20):
                if says:
                    yield Progress("waiting")
                threading.Event().wait(0.01)
            yield from super().stream(conversation, settings)

    with serving({"m": Slow(["Fine."])}) as address:
        told = CLIENT.post(f"{address}/v1/chat/completions", json={**QUESTION, "stream": True}).text
    assert told.startswith(": alive\n\n") and told.endswith("data: [DONE]\n\n") and "Fine." in told


def test_a_thread_ends_with_its_server() -> None:
    with serving({"m": ScriptedEngine(["Fine."])}) as address:
        CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
        assert any(each.name.startswith("answer_") for each in threading.enumerate())
    assert soon(lambda: not any(each.name.startswith("answer_") for each in threading.enumerate()))


def test_the_numbers_tell_what_happened() -> None:
    script: Sequence[Event] = (Text("Fine."), Finished("stop", 9, 5, 4))
    with serving({"m": ScriptedEngine([script])}) as address:
        for _ in range(2):
            CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
        CLIENT.post(f"{address}/v1/chat/completions", json={})
        CLIENT.get(f"{address}/v1/models/m")
        CLIENT.get(f"{address}/.env")
        assert number(address, 'chatcli_requests_total{route="/v1/chat/completions",status="200"}') == 2
        assert number(address, 'chatcli_requests_total{route="/v1/chat/completions",status="400"}') == 1
        assert number(address, 'chatcli_requests_total{route="/v1/models/{name:path}",status="200"}') == 1
        assert number(address, 'chatcli_requests_total{route="other",status="404"}') == 1
        assert number(address, "chatcli_prompt_tokens_total") == 18
        assert number(address, "chatcli_cached_prompt_tokens_total") == 8
        assert number(address, "chatcli_completion_tokens_total") == 10
        assert number(address, "chatcli_first_token_seconds_count") == 2
