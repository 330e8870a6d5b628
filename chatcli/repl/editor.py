"""A text in the person's own editor.

It knows variables, a file and a program; the text is not its business.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from chatcli.environment import Environment
from chatcli.errors import UsageError

FALLBACKS = ("editor", "nano", "vi", "notepad.exe")


def edited(text: str, environment: Environment) -> str:
    """What the person makes of `text` in their editor, without newlines at its end.

    Raises:
        UsageError: there is no editor, or it fails.
    """
    call = _call(environment.variables)
    program = Path(call[0]).name
    handle, name = tempfile.mkstemp(prefix="chatcli-", suffix=".md")
    file = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="") as opened:
            opened.write(text)
        code = subprocess.run([*call, name], stdin=_terminal(environment), check=False).returncode
        if code:
            raise UsageError(f"{program} failed with exit code {code}; the text stays as it was.")
        return file.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError as error:
        raise UsageError(f"{program} cannot be run ({error.strerror}); set $EDITOR to the editor to use.") from error
    finally:
        with suppress(OSError):
            file.unlink()


def _call(variables: Mapping[str, str]) -> list[str]:
    """The editor and its arguments: $VISUAL, $EDITOR, else what there is."""
    for variable in ("VISUAL", "EDITOR"):
        said = variables.get(variable, "").strip()
        try:
            call = shlex.split(said, posix=os.name != "nt")
        except ValueError as error:
            raise UsageError(f"${variable} is {said}, which is no command ({error}); correct it.") from error
        if call:
            return call
    found = (shutil.which(name, path=variables.get("PATH", "")) for name in FALLBACKS)
    path = next(filter(None, found), None)
    if not path:
        raise UsageError("There is no editor: set $EDITOR to the one to use, as in export EDITOR=nano.")
    return [path]


def _terminal(environment: Environment) -> int | None:
    """Where the editor gets its keys: the terminal, also where standard input is a pipe."""
    return environment.stdin.fileno() if environment.stdin_is_terminal else None
