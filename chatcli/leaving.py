"""What must be done before the process ends: `cli.main` ends it without the interpreter's clean-up.

It knows nobody's reasons.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import suppress

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
