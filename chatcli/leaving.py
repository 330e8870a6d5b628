"""What must be done before the process ends: `cli.main` ends it without the interpreter's clean-up, and signals may.

It knows nobody's reasons.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

_actions: list[Callable[[], object]] = []


def before_leaving(action: Callable[[], object]) -> None:
    """Have `action` called once when the program ends; the last comes first, and one that fails stops no other."""
    _actions.append(action)


@atexit.register
def leave() -> None:
    """Do all of it now."""
    while _actions:
        with suppress(Exception):
            _actions.pop()()


@contextmanager
def leaving_on_hangup() -> Generator[None]:
    """Make SIGTERM and SIGHUP unwind the program, so that what was shown is saved and the terminal is whole.

    What is ignored, as nohup has it, stays ignored.
    """

    def unwind(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    there = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {each: signal.signal(each, unwind) for each in there if signal.getsignal(each) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
