"""The program's entry: a Ctrl-C that comes before anything else is ready leaves at once, without a trace."""

from __future__ import annotations

import signal


def main() -> None:
    """Run chatcli with the process's arguments and leave with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from chatcli.cli.main import run_program

    run_program()


if __name__ == "__main__":
    main()
