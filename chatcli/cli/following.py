"""Under torchrun one process talks and the others compute what it does: `torchrun -m chatcli ask ...`.

It knows which process this is; how they compute together is the runtime's.
"""

from __future__ import annotations

import os
import signal
import sys

from chatcli.leaving import before_leaving
from chatcli.torchrun import processes, rank


def silent_unless_first() -> None:
    """Take standard input and output from every process but the first: they would speak in chorus."""
    if rank(os.environ):
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115  as long as the process lives
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def follow_or_lead() -> int | None:
    """Follow the first process to its end and return the exit code.

    The first goes on, and lets the others go at its end; without torchrun nothing happens.
    """
    if processes(os.environ) == 1:
        return None
    if rank(os.environ) == 0:
        before_leaving(_dismiss)
        return None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a Ctrl-C means, the first decides
    import chatcli.runtime  # noqa: F401  prepares the process for torch
    from chatcli.runtime.tensor_parallel import follow

    return follow()


def _dismiss() -> None:
    from chatcli.runtime.tensor_parallel import leader

    leader.dismiss()
