"""While a reply streams: Ctrl-C asks it to end, and keys typed ahead neither show nor get lost.

It knows signals and the terminal's modes; it knows no model and no prompt_toolkit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TextIO

from chatcli.generation import Event


class Interrupt:
    """Set by the first Ctrl-C; the second raises `KeyboardInterrupt` wherever the program is."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def interruptible() -> Generator[Interrupt]:
    """Catch Ctrl-C in an `Interrupt` as long as the block lasts."""
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt.handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def until(events: Generator[Event], interrupt: Interrupt, escaped: Callable[[], bool]) -> Generator[Event]:
    """Pass events on until an interrupt is requested or Esc was pressed; closes `events` in any case.

    Engines yield at least once a token and once a chunk of the prompt, so the wait is short.
    """
    with closing(events):
        for event in events:
            yield event
            if interrupt.requested or escaped():
                return


@contextmanager
def keys_held_back(stream: TextIO) -> Generator[None]:
    """Switch the terminal's echo off, so that keys cannot tear a reply; they wait for the next prompt.

    Enter typed meanwhile reaches the prompt as Ctrl-J, a new line, and sends nothing by itself. Without
    NOFLSH a Ctrl-C would throw away what was typed; in canonical mode a Ctrl-D would. Where a Ctrl-C would reach
    another program alone, as torchrun, which ends everything, it is made a key.
    """
    if sys.platform == "win32" or not stream.isatty():
        yield
        return
    import termios

    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = [*before]
    quiet[3] = (quiet[3] & ~(termios.ECHO | termios.ICANON)) | termios.NOFLSH
    if not _gets_its_signals(descriptor):
        quiet[3] &= ~termios.ISIG

    def hold(signum: int = 0, frame: FrameType | None = None) -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)

    hold()
    continued = signal.signal(signal.SIGCONT, hold)  # after Ctrl-Z and fg the shell's own modes are on
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, continued)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _gets_its_signals(descriptor: int) -> bool:
    """Whether this process belongs to the session that the terminal sends its signals to."""
    try:
        os.tcgetpgrp(descriptor)
    except OSError:
        return False
    return True


@contextmanager
def no_interrupt_between_replies() -> Generator[None]:
    """Ignore a Ctrl-C that comes just after a reply has ended; replies and the prompt set handlers of their own."""
    before = signal.signal(signal.SIGINT, lambda signum, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
