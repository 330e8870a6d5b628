"""The program's entry: a Ctrl-C that comes before anything else is ready leaves at once, without a trace."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run chatcli with the process's arguments and leave with its exit code."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from chatcli.cli.main import run_program

    run_program()


if __name__ == "__main__":
    main()
