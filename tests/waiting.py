"""Waiting for what another thread or process does, however slow the machine is at it.

Nothing here has a limit of its own: pytest's ends a test that waits in vain, and shows where it waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object]) -> None:
    """Return when it holds."""
    while not holds():
        time.sleep(0.005)
