"""What is typed while a reply streams: kept for the next prompt; Esc among it stops the reply.

It knows the terminal's bytes; it knows no reply and no prompt_toolkit. On Windows keys wait unread, and Esc does not
stop a reply.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from chatcli.environment import Environment

ESC = b"\x1b"
CTRL_C = b"\x03"
"""A key like any other where the terminal's signals are another program's."""
SEQUENCE_SECONDS = 0.05
"""How soon after its Esc the rest of an arrow key's sequence comes; 50 ms is long also over ssh."""
MOST_AT_ONCE = 1 << 20


class TypedAhead:
    """Reads a terminal without waiting for it; a stream that is no terminal has nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno() if sys.platform != "win32" and stream.isatty() else None
        self._kept: list[bytes] = []

    def escaped(self) -> bool:
        """Whether Esc or Ctrl-C was pressed, and not a key whose sequence begins with Esc; keeps all else."""
        came = self._read()
        if CTRL_C in came:
            self._kept.append(came.replace(CTRL_C, b""))
            return True
        while came.endswith(ESC):
            more = self._read(SEQUENCE_SECONDS)
            if not more:
                self._kept.append(came.rstrip(ESC))
                return True
            came += more
        self._kept.append(came)
        return False

    def take(self) -> str:
        """All that was typed and not yet taken."""
        self._kept.append(self._read())
        typed = b"".join(self._kept)
        self._kept = []
        return typed.decode("utf-8", "surrogateescape")

    def _read(self, seconds: float = 0.0) -> bytes:
        came = b""
        while self._descriptor is not None and len(came) < MOST_AT_ONCE:
            if not select.select([self._descriptor], [], [], 0 if came else seconds)[0]:
                break
            try:
                piece = os.read(self._descriptor, 65536)
            except OSError:  # the terminal is gone
                piece = b""
            if not piece:
                self._descriptor = None
            came += piece
        return came


@contextmanager
def pastes_marked(environment: Environment) -> Generator[None]:
    """Have the terminal say where a paste begins and ends, also while no prompt is there to ask for it."""
    if not (environment.stdin_is_terminal and environment.stdout_is_terminal and environment.can_erase):
        yield
        return
    environment.stdout.write("\x1b[?2004h")
    environment.stdout.flush()
    try:
        yield
    finally:
        environment.stdout.write("\x1b[?2004l")
        environment.stdout.flush()
