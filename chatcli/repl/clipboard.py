"""A text to the clipboard: by the desktop's own program, or by the terminal, which also works over ssh.

It knows variables and programs; the text is not its business.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Mapping

from chatcli.environment import Environment
from chatcli.errors import UsageError

LONGEST = 74_994
"""Bytes that a terminal takes in one OSC 52; xterm's limit, the smallest that is in use."""

PROGRAMS = (
    ("TMUX", ("tmux", "load-buffer", "-w", "-")),  # hands it on to the terminal outside
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("", ("pbcopy",)),
    ("", ("clip.exe",)),
)
"""The variable that says a program is of use here, and its call."""


def program(variables: Mapping[str, str]) -> tuple[str, ...]:
    """The call that fills the clipboard of the person's own screen; empty where none does."""
    if variables.get("SSH_CONNECTION") and not variables.get("TMUX"):
        return ()  # a program here would fill the clipboard of another machine
    for needed, (name, *arguments) in PROGRAMS:
        path = shutil.which(name, path=variables.get("PATH")) if not needed or variables.get(needed) else None
        if path:
            return (path, *arguments)
    return ()


def copy(text: str, environment: Environment) -> None:
    """Put `text` into the clipboard.

    Raises:
        UsageError: there is no way to do it here.
    """
    data = text.encode("utf-8", "replace")
    call = program(environment.variables)
    if call:
        try:
            # Its output is not waited for: xclip stays behind, to serve what it holds.
            subprocess.run(
                call, input=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=5
            )
            return
        except (OSError, subprocess.SubprocessError):
            pass
    if not environment.stdout_is_terminal or not environment.can_erase:
        raise UsageError("There is no clipboard here: neither a program for it nor a terminal that has one.")
    if len(data) > LONGEST:
        raise UsageError(f"{len(data)} bytes are too many for the terminal's clipboard; write them with /save FILE.")
    environment.stdout.write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
    environment.stdout.flush()
