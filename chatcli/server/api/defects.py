"""What the log says of an error that nobody foresaw: its kind, and where it was only under `--debug`.

An error's own text may name files, and hold what a client sent.
"""

from __future__ import annotations

import os
import sys
import traceback


def tell_of(error: BaseException) -> None:
    """One line on standard error."""
    print(
        f"chatcli: unexpected {type(error).__name__} while answering. This is a defect of chatcli; "
        "`chatcli --debug serve ...` shows where.",
        file=sys.stderr,
        flush=True,
    )
    if os.environ.get("CHATCLI_DEBUG"):
        traceback.print_exception(error)
