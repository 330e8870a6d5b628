"""One HTTP request and its answer, in pieces as they come, left at any moment.

The standard library's client, which starts about three times as fast as httpx2, in a thread of its own: whoever waits
for the answer gets a sign of life twenty times a second and never hangs in a socket. It knows no JSON and no server.
"""

from __future__ import annotations

import http.client
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Literal

from chatcli import __version__
from chatcli.servers.address import Address

POLL_SECONDS = 0.05
PIECE = 1 << 16
_AHEAD = 64
"""Pieces that are read before somebody wants them."""
_LARGEST = 4 << 20
"""Bytes of an answer that is no stream."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server; `path` begins with a slash."""

    address: Address
    method: Literal["GET", "POST"]
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that are waited: for a connection, for the first word of an answer, and then for each next one."""

    connect: float = 10.0
    first: float = 900.0
    between: float = 120.0


@dataclass(frozen=True, slots=True)
class Head:
    """How an answer begins; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]


class ExchangeFailed(Exception):
    """There is no answer, or no end of it; the text ends a sentence that begins with the server's name.

    `kind` is "refused" where nobody listens, "unreachable", "silent", "foreign" where it speaks no HTTP, or "cut".
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Connected:
    """The connection is there."""


class _Ended:
    """The answer is whole."""


_Said = _Connected | Head | bytes | _Ended | Exception


def exchange(request: Request, patience: Patience) -> Generator[Head | bytes | None]:
    """The answer's head, then its bytes; None whenever nothing has come for a moment.

    Closing the generator closes the connection at once.

    Raises:
        ExchangeFailed: there is no answer, or it stays away too long.
    """
    line = _Line(*_connection(request, patience.connect))
    threading.Thread(target=line.carry, args=(request,), daemon=True).start()
    limit, since, failing = patience.connect, time.monotonic(), "cannot be connected to"
    try:
        while True:
            try:
                latest = line.said.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() - since > limit:
                    waited = f"in {limit:.0f} seconds" if limit >= 1 else "in time"
                    raise ExchangeFailed("silent", f"{failing} {waited}") from None
                yield None
                continue
            if isinstance(latest, _Ended):
                return
            if isinstance(latest, Exception):
                raise _failure(latest, request.address) from latest
            since, limit = time.monotonic(), patience.between if isinstance(latest, bytes) else patience.first
            failing = "says nothing"
            if not isinstance(latest, _Connected):
                yield latest
    finally:
        line.shut()


def fetch(request: Request, patience: Patience) -> tuple[Head, bytes]:
    """A whole answer.

    Raises:
        ExchangeFailed: there is none, it stays away too long, or it is larger than any should be.
    """
    with closing(exchange(request, patience)) as pieces:
        return read_whole(pieces)


def read_whole(pieces: Generator[Head | bytes | None]) -> tuple[Head, bytes]:
    """The same of a request that is under way, from its head on."""
    head, body = Head(0, {}), bytearray()
    for piece in pieces:
        if isinstance(piece, Head):
            head = piece
        elif piece:
            body += piece
            if len(body) > _LARGEST:
                raise ExchangeFailed("foreign", "sends more than any such answer has")
    return head, bytes(body)


class _Line:
    """A connection in a thread of its own, which `carry` is; `said` is what came over it."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> None:
        self.said: queue.Queue[_Said] = queue.Queue(_AHEAD)
        self._connection, self._path, self._headers = connection, path, headers
        self._left = threading.Event()
        self._socket: socket.socket | None = None  # which the library lets go of when the answer has begun

    def carry(self, request: Request) -> None:
        """Make the request and pass on what comes; ends when the line is shut."""
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.settimeout(None)  # who waits decides how long
            self._tell(_Connected())
            if self._left.is_set():
                return
            self._connection.request(request.method, self._path, request.body, dict(self._headers))
            response = self._connection.getresponse()
            self._tell(Head(response.status, {name.lower(): value for name, value in response.getheaders()}))
            while not self._left.is_set() and (piece := response.read1(PIECE)):
                self._tell(piece)
            self._tell(_Ended())
        except Exception as error:  # carried over to the one that waits
            self._tell(error)
        finally:
            self._connection.close()

    def shut(self) -> None:
        """Nobody waits any more: wake up whoever reads from the connection, and let it be closed."""
        self._left.set()
        if self._socket:
            with suppress(OSError, ValueError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _tell(self, what: _Said) -> None:
        while not self._left.is_set():
            with suppress(queue.Full):
                self.said.put(what, timeout=POLL_SECONDS)
                return


def _connection(request: Request, patience: float) -> tuple[http.client.HTTPConnection, str, Mapping[str, str]]:
    """A connection that is still to be made, straight or through a proxy; the path and headers to send over it."""
    address = request.address
    headers = {
        "User-Agent": f"chatcli/{__version__}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **request.headers,
    }
    if address.socket:
        return _UnixConnection(address.socket, patience), request.path, headers
    proxy = None if address.is_local else _proxy(address)
    near = proxy or address
    if address.scheme == "https":
        secure = http.client.HTTPSConnection(
            near.host, near.port, timeout=patience, context=ssl.create_default_context()
        )
        if proxy:
            secure.set_tunnel(address.host, address.port)
        return secure, request.path, headers
    path = f"http://{address.authority}{request.path}" if proxy else request.path
    return http.client.HTTPConnection(near.host, near.port, timeout=patience), path, headers


class _UnixConnection(http.client.HTTPConnection):
    """A connection over a socket of this machine."""

    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _proxy(address: Address) -> Address | None:
    """The proxy that the environment names for an address, as curl and Python read HTTPS_PROXY and NO_PROXY.

    Raises:
        ExchangeFailed: it is none that is spoken to over plain HTTP.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    named = getproxies()
    url = named.get(address.scheme) or named.get("all")
    if not url or proxy_bypass(address.host):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        host = ""
    if not host or parts.scheme != "http":  # the URL is not repeated: it may hold a password
        text = "cannot be reached: the environment names a proxy that is no http://HOST:PORT; NO_PROXY goes without"
        raise ExchangeFailed("unreachable", text)
    return Address("http", host, port)


def _failure(error: Exception, address: Address) -> ExchangeFailed:
    """What an error of the library means to people."""
    where = address.socket or address.authority
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ExchangeFailed("refused", f"is not there: nobody listens at {where}")
    if isinstance(error, socket.gaierror):
        return ExchangeFailed("unreachable", f"cannot be found: there is no host {address.host}, or no network")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ExchangeFailed("unreachable", f"has a certificate that is not trusted ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return ExchangeFailed("foreign", f"does not speak TLS at {where}: is it http rather than https?")
    if isinstance(error, TimeoutError):
        return ExchangeFailed("silent", f"cannot be connected to at {where}")
    if isinstance(error, http.client.IncompleteRead | ConnectionError | http.client.RemoteDisconnected):
        return ExchangeFailed("cut", "closed the connection before its answer was whole")
    if isinstance(error, http.client.HTTPException):
        return ExchangeFailed("foreign", f"does not speak HTTP at {where}")
    return ExchangeFailed("unreachable", f"cannot be reached ({getattr(error, 'strerror', None) or error})")
