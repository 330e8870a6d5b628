"""One client of a resident model: its request comes in, what it is told goes out, and its leaving is noticed.

Nothing here waits for the client: a reader that is slow, or stopped, costs memory and no time. It knows lines and
values, no engine.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from contextlib import closing

from chatcli import sockets
from chatcli.wire import decode, encode


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
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, value: object) -> None:
        """Tell the client; never waits."""
        self._out.put(value)

    def finish(self) -> None:
        """Close when all has been told."""
        self._out.put(None)

    def _serve(self) -> None:
        """Read and write at once; the descriptor is closed when neither can mistake another's for it."""
        writing = threading.Thread(target=self._write, daemon=True)
        with closing(self._client):
            writing.start()
            self._read()
            writing.join()

    def _read(self) -> None:
        try:
            for line in sockets.lines(self._client, None):
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
                self._client.sendall(encode(value))
        except OSError:
            pass
        finally:
            self.gone.set()
            sockets.hang_up(self._client)
