"""A file that a command writes: whole or not at all, and refused before the work where it cannot be written.

It knows files and texts; it knows no command.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from chatcli.errors import UsageError


def target_of(output: str) -> Path:
    """The file that `--output` names, behind links.

    Raises:
        UsageError: nothing can be written there; better said before a model has worked for an hour.
    """
    if not output:
        raise UsageError("--output is empty: name a file.")
    try:
        target = Path(output).expanduser()
        target = target.resolve() if target.is_symlink() else target
        folder = target.parent
        if target.is_dir():
            reason = "it is a folder"
        elif not folder.is_dir():
            reason = f"there is no folder {folder}"
        elif _is_special(target):
            reason = "" if os.access(target, os.W_OK) else "it is not yours to write"
        else:
            reason = "" if os.access(folder, os.W_OK) else f"the folder {folder} is not yours to write"
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise UsageError(f"{output} cannot be written: {reason}.")
    return target


def write_whole(target: Path, pieces: Iterable[str], *, private: bool = False) -> None:
    """Write a file in one step, so that nobody ever sees half of it; a device or a pipe is just written to.

    A file that was there keeps its mode, unless the new one is to be `private`: readable by nobody else.

    Raises:
        UsageError: it cannot be written.
    """
    import tempfile

    try:
        if _is_special(target):
            with target.open("w", encoding="utf-8", errors="replace") as device:
                device.writelines(pieces)
            return
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".chatcli-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            if not private:
                Path(name).chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.") from error


def _is_special(target: Path) -> bool:
    """Whether it is there and no plain file, such as /dev/null: that must not be replaced."""
    return target.exists() and not target.is_file()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
