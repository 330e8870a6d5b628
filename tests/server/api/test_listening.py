"""Where the server listens: addresses that cannot be had, a socket that only its owner can open."""

from __future__ import annotations

import signal
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx
import pytest
import uvicorn
from api_server import soon
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import UsageError
from chatcli.leaving import leaving_on_hangup
from chatcli.server.api import listening
from chatcli.server.api.app import build_app
from chatcli.server.api.guard import Guard
from chatcli.server.api.listening import _Server, bind_tcp, bind_unix, is_loopback, remove, url

QUESTION = {"messages": [{"role": "user", "content": "Is it?"}], "stream": True}


def test_a_free_port_is_taken_and_told() -> None:
    with bind_tcp("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert url(bound) == f"http://{host}:{port}"


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"^Port {port} of 127.0.0.1 is in use: .* --port.$"):
            bind_tcp("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "x" * 300, "192.0.2.1"])
def test_an_address_that_this_machine_has_not(host: str) -> None:
    with pytest.raises(UsageError, match="--host"):
        bind_tcp(host, 0)


@pytest.mark.parametrize(
    ("host", "only_this_machine"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_which_addresses_others_reach(host: str, only_this_machine: bool) -> None:
    with bind_tcp(host, 0) as bound:  # which listens not yet
        assert is_loopback(bound) == only_this_machine


def test_only_its_owner_can_open_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(UsageError, match=r"listens at .* already"):
            bind_unix(path)
    with bind_unix(path):  # what a dead process left is replaced
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove(path)
    assert not path.exists()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(path)
    for each in (path, link, tmp_path):
        with pytest.raises(UsageError, match="is no socket"):
            bind_unix(each)
    remove(path)
    assert path.read_text() == "mine"


def test_where_no_socket_can_be(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "api.sock", tmp_path / ("x" * 200)):
        with pytest.raises(UsageError, match="No socket can be made"):
            bind_unix(path)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals hang up elsewhere")
def test_a_terminal_that_is_closed_within_a_request_ends_the_server() -> None:
    """uvicorn took what the signal raised for an error of the request, and served on without a terminal."""
    asked = Event()

    async def hang_up(request: Request) -> Response:
        signal.raise_signal(signal.SIGHUP)
        return Response()

    def ask() -> None:
        asked.wait()
        with suppress(httpx.HTTPError):
            httpx.get(url(bound))

    bound = bind_tcp("127.0.0.1", 0)
    threading.Thread(target=ask, daemon=True).start()
    with leaving_on_hangup(), pytest.raises(SystemExit) as left:
        listening.serve(Starlette(routes=[Route("/", hang_up)]), bound, asked.set, lambda: None)
    assert left.value.code == 128 + signal.SIGHUP


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_who_connects_and_asks_nothing_is_not_waited_for(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its key is known a client could hold as many connections as it liked, for ever."""
    pytest.importorskip(parser)
    monkeypatch.setattr(listening, "HEAD_SECONDS", 1.0)
    bound = bind_tcp("127.0.0.1", 0)
    app = build_app({"m": ScriptedEngine(["Yes " * 25], seconds_per_piece=0.08)}, Guard())
    server = _Server(
        uvicorn.Config(app, http=parser, log_config=None, timeout_keep_alive=60), lambda: None, lambda: None
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    assert soon(lambda: server.started)
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        silent = [_said(bound, each) for each in (b"", b"GET /health HT", health)]
        assert b"200 OK" in silent[2].recv(1 << 16)
        silent[2].sendall(b"GET /hea")
        waiting = _said(bound, health)  # for its next request, which other clients may make much later
        with httpx.stream("POST", f"{url(bound)}/v1/chat/completions", json=QUESTION) as answer:
            assert b"[DONE]" in answer.read()  # which takes longer
        for each in silent:
            while each.recv(1 << 16):
                pass
        assert b"200 OK" in waiting.recv(1 << 16)
        waiting.sendall(health)
        assert b"200 OK" in waiting.recv(1 << 16)
    finally:
        server.should_exit = True
        thread.join()


def _said(bound: socket.socket, data: bytes) -> socket.socket:
    """A connection over which something was said."""
    client = socket.create_connection(bound.getsockname(), timeout=10)
    client.sendall(data)
    return client
