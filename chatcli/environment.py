"""The outside world as one value: streams, terminal facts, folders, variables, the clock.

Everything that would otherwise be asked of `sys`, `os` or `time` in the middle of a function is a
field here, so that "stdout is a pipe" is an argument of a test. It knows no model and no command.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Environment:
    """What chatcli may know of where it runs. Streams may be None-like only in broken shells.

    `plain` is the person's wish to get text as it comes, `quiet` that for no notes and no progress.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    variables: Mapping[str, str] = field(default_factory=dict)
    config_folder: Path = Path()
    data_folder: Path = Path()
    state_folder: Path = Path()
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    plain: bool = False
    quiet: bool = False
    terminal_size: Callable[[], os.terminal_size] = shutil.get_terminal_size

    @property
    def stdin_is_terminal(self) -> bool:
        """Whether a person types, rather than a pipe or a file."""
        return _is_terminal(self.stdin)

    @property
    def stdout_is_terminal(self) -> bool:
        """Whether a person reads the answer, rather than a program."""
        return _is_terminal(self.stdout)

    @property
    def stderr_is_terminal(self) -> bool:
        """Whether notes and progress have a reader."""
        return not self.quiet and _is_terminal(self.stderr)

    @property
    def color(self) -> bool:
        """Whether colour is welcome: NO_COLOR counts only when not empty; a dumb terminal has none."""
        return not self.variables.get("NO_COLOR") and self.variables.get("TERM") != "dumb"

    @property
    def can_erase(self) -> bool:
        """Whether the terminal can take back a line that it shows."""
        return self.variables.get("TERM") != "dumb"

    @property
    def offline(self) -> bool:
        """Whether the Hub may not be asked, as huggingface_hub reads it."""
        return self.variables.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")

    def note(self, text: str) -> None:
        """One line on stderr, only where a person can see it."""
        if self.stderr_is_terminal:
            print(text, file=self.stderr, flush=True)

    def warn(self, text: str) -> None:
        """One line on stderr for people and logs, unless they want quiet."""
        if not self.quiet:
            print(text, file=self.stderr, flush=True)


def _is_terminal(stream: TextIO | None) -> bool:
    """False for closed and missing streams, which `isatty` would answer with an exception."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def real_environment() -> Environment:
    """The process's own streams and variables, and the platform's usual folders for chatcli.

    `CHATCLI_HOME` puts configuration, data and state below one folder, for portable installs.
    """
    home = os.environ.get("CHATCLI_HOME")
    if home:
        root = Path(home).expanduser()
        folders = (root / "config", root / "data", root / "state")
    else:
        from platformdirs import PlatformDirs

        dirs = PlatformDirs("chatcli", appauthor=False)
        folders = (dirs.user_config_path, dirs.user_data_path, dirs.user_state_path)
    return Environment(sys.stdin, sys.stdout, sys.stderr, os.environ, *folders, terminal_size=_terminal_size)


def _terminal_size() -> os.terminal_size:
    """The window as it is now; variables of a shell may still tell of an earlier size."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # no stream, no terminal, closed
            size = os.get_terminal_size(stream.fileno())
            if size.columns and size.lines:
                return size
    return shutil.get_terminal_size()
