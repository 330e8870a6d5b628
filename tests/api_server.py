"""A real server in a thread, on the loopback address or a Unix socket, and what its tests ask it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn

from chatcli.server.api.app import build_app
from chatcli.server.api.guard import Guard
from chatcli.server.api.served import Served
from chatcli.server.api.service import Limits


@contextmanager
def serving(
    models: Mapping[str, Served],
    guard: Guard | None = None,
    limits: Limits | None = None,
    listener: socket.socket | None = None,
) -> Iterator[str]:
    """The address of a server of `models`, such as http://127.0.0.1:4711; over a given socket it has no port."""
    at = listener or socket.create_server(("127.0.0.1", 0))
    name = at.getsockname()
    app = build_app(models, guard or Guard(), limits)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield "http://localhost" if listener else f"http://127.0.0.1:{name[1]}"
    finally:
        server.should_exit = True
        thread.join()


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold, sooner or later."""
    for _ in range(6000):
        if holds():
            return True
        time.sleep(0.01)
    return False
