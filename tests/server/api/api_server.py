"""A real server in a thread, on the loopback address or a Unix socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
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
    """The address of a server of `models`, such as http://127.0.0.1:4711."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    app = build_app(models, guard or Guard(), limits)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
