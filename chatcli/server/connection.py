"""One client of a resident model: its request comes in, what it is told goes out, and its leaving is noticed.

Nothing here waits for the client: a reader that is slow, or stopped, costs memory and no time. It knows lines and
values, no engine.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable

from chatcli import sockets
from chatcli.wire import decode, encode

_READING_SECONDS = 3600.0


class Connection:
    """A client that has connected; `received(connection, request)` is called in a thread of its own.

    Attributes:
        gone: set when the client has left, or when all has been said.
    """

    def __init__(self, client: socket.socket, received: Callable[[Connection, object], None]) -> None:
        self.gone = threading.Event()
        self._client = client
        self._out: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._received = received
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def send(self, value: object) -> None:
        """Tell the client; never waits."""
        self._out.put(value)

    def finish(self) -> None:
        """Close when all has been told."""
        self._out.put(None)

    def _read(self) -> None:
        try:
            for line in sockets.lines(self._client, _READING_SECONDS):
                if line:
                    self._received(self, decode(line))
        except ValueError:  # not what we speak
            pass
        finally:
            self.gone.set()
            self._out.put(None)

    def _write(self) -> None:
        try:
            while (value := self._out.get()) is not None:
                self._client.setblocking(True)
                self._client.sendall(encode(value))
        except OSError:
            pass
        finally:
            self.gone.set()
            self._shut()

    def _shut(self) -> None:
        try:
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            self._client.close()
