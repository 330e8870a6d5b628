"""Where the server listens, and how it ends: sockets bound by us, and uvicorn on them until a signal comes.

It knows addresses and signals; what is served it does not know.
"""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import stat
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from chatcli import sockets
from chatcli.errors import UsageError

DRAIN_SECONDS = 30
"""How long what is under way may go on after a signal to end."""
HEAD_SECONDS = 30.0
"""How long a client may take to say what it wants; only then its key is known."""
_IDLE_SECONDS = 65
"""How long a connection is kept for the client's next request: longer than clients and proxies keep theirs."""


def bind_tcp(host: str, port: int) -> socket.socket:
    """A socket bound to a name or an address of this machine; it does not listen yet.

    Raises:
        UsageError: there is no such address, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"There is no host {host}: --host wants an address of this machine, as 127.0.0.1.") from error
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UsageError(_refusal(error, host, port)) from error
    return bound


def bind_unix(path: Path) -> socket.socket:
    """A socket at `path` that nobody but its owner can open, in place of one that a dead process left there.

    Raises:
        UsageError: there is something else, somebody listens, or no socket can be there.
    """
    if not sockets.available():
        raise UsageError("This system has no Unix sockets: leave --socket out.")
    try:
        if path.exists() or path.is_symlink():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise UsageError(f"{path} is there already, and is no socket: name another --socket.")
            if (other := sockets.connect(path)) is not None:
                other.close()
                raise UsageError(f"A server listens at {path} already: end it, or name another --socket.")
        return sockets.listen(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"No socket can be made at {path} ({reason}): name another --socket.") from error


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches a bound TCP socket: the address counts, not the name that it came from."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def url(bound: socket.socket) -> str:
    """The address of a bound TCP socket, as clients write it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Starlette, bound: socket.socket, started: Callable[[], None], draining: Callable[[], None]) -> None:
    """Serve until a signal comes, then finish what is under way; `started` and `draining` are called at these times.

    A terminal that is closed ends it at once; what SIGHUP did before, it does behind that.

    Raises:
        KeyboardInterrupt: a second signal came before all was finished.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",  # its tracebacks would name files
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody is believed to be another
        ws="none",
        lifespan="on",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, started, draining)
    with _hangup_behind(server):
        server.run(sockets=[bound])
    if server.force_exit:
        raise KeyboardInterrupt


@contextmanager
def _hangup_behind(server: uvicorn.Server) -> Generator[None]:
    """Let SIGHUP end the server first: what its handler raises within a request is caught there, as that one's error.

    What is ignored, as nohup has it, stays ignored.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or current_thread() is not main_thread() or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    came = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal came
        came = server.should_exit = server.force_exit = True

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)
    if came:
        signal.raise_signal(number)


class _Server(uvicorn.Server):
    """uvicorn's server, which ends by itself after a signal and does not raise it again."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], draining: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._draining = draining
        self._silent: dict[Any, float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so.

        Raises:
            UsageError: somebody else, who was bound to the same address, listens there by now.
        """
        try:
            await super().startup(sockets)
        except OSError as error:
            raise UsageError(f"The server cannot listen ({error.strerror or error}): name another --port.") from error
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections; uvicorn itself waits for ever for a request that does not come."""
        if counter % 10 == 0:
            self._close_the_silent(time.monotonic())
        return await super().on_tick(counter)

    def _close_the_silent(self, now: float) -> None:
        """Close the connections that owe a request for `HEAD_SECONDS`."""
        connections: Iterable[Any] = self.server_state.connections
        self._silent = {each: self._silent.get(each, now) for each in connections if _is_silent(each)}
        for each, since in self._silent.items():
            if now - since > HEAD_SECONDS:
                each.transport.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends."""
        if self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True
            self._draining()


def _is_silent(connection: Any) -> bool:
    """Whether a connection is in no request, and uvicorn does not wait for one only so long."""
    cycle = connection.cycle
    return (cycle is None or cycle.response_complete) and connection.timeout_keep_alive_task is None


def _refusal(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use: end what listens there, or name another --port."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used without the administrator's rights: name a --port above 1023."
    return f"The server cannot listen at {host} port {port} ({error.strerror or error}): name another --host or --port."


def remove(path: Path) -> None:
    """Take away the socket at `path`, if it is still one."""
    with suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
