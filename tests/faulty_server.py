"""A server of the OpenAI API on this machine that does what it is told: answers, refuses, breaks off, keeps silent.

A real socket and real HTTP, so that what is tested is what runs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


def chunk(**delta: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def ending(reason: str = "stop", **more: object) -> bytes:
    said = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}
    return b"data: " + json.dumps(said).encode() + b"\n\ndata: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_GET(self) -> None:
        self.server.got.append((self.path, dict(self.headers), None))
        page = self.server.pages.get(self.path)
        if page is None:
            return status(404, {"error": {"message": "no such page"}})(self)
        return (page if callable(page) else status(200, page))(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, dict(self.headers), body))
        with self.server.lock:
            reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        reply(self)

    def log_message(self, *said: object) -> None:
        pass


class FaultyServer(ThreadingHTTPServer):
    """`replies` are given one after another, the last one for ever; `got` keeps what came in.

    `left` is set when a client has gone in the middle of a reply.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, replies: Sequence[Reply], models: Sequence[dict[str, Any]] = ({"id": "m"},)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = list(replies)
        self.pages: dict[str, Any] = {"/v1/models": {"object": "list", "data": list(models)}}
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.left = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self) -> list[Any]:
        """The bodies of the requests for an answer."""
        return [body for _, _, body in self.got if body is not None]

    def handle_error(self, request: object, client_address: object) -> None:
        self.left.set()


@contextmanager
def serving(*replies: Reply, models: Sequence[dict[str, Any]] = ({"id": "m"},)) -> Iterator[FaultyServer]:
    with FaultyServer(replies or [stream(chunk(content="Yes."), ending())], models) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def status(code: int, said: Any, **headers: str) -> Reply:
    """An answer that is no stream; a table as JSON, a text as it is."""

    def reply(handler: Handler) -> None:
        body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        handler.send_response(code)
        handler.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def stream(*pieces: bytes | float, cut: bool = False) -> Reply:
    """A stream of events; a number is a pause in seconds. `cut` leaves the last chunk without its end."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            if isinstance(piece, float):
                time.sleep(piece)
                continue
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.flush()
        if cut:
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return reply


def endless(handler: Handler) -> None:
    """Words until the client has gone."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    while True:
        handler.wfile.write(chunk(content="word "))
        time.sleep(0.01)


def silent(handler: Handler) -> None:
    """Nothing, until the client has gone."""
    handler.connection.recv(1)
    handler.server.left.set()


def garbage(handler: Handler) -> None:
    """What is no HTTP."""
    handler.connection.sendall(b"\x00\x01SSH-2.0-OpenSSH\r\n\r\n")
    handler.close_connection = True
