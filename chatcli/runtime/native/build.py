"""Build `step.c` for this machine with its own compiler, beside whatever goes on, and load it.

What was built stays on the disk, in a folder that only its owner can write to. It knows no model.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from chatcli.sockets import is_private

SOURCE = Path(__file__).with_name("step.c")
FLAGS = (
    *("-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-std=gnu11"),
    # Sums may be taken in any order, which vectors need; nothing of the rest of -ffast-math.
    *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno"),
)
_BUILD = '"$@" && mv -f -- "$BUILDING" "$BUILT"'
"""Whoever began to build it may have left before it is done, and still the next one finds it."""


class CannotBuildError(Exception):
    """There is no library and there will be none; the message says why, as the end of a sentence."""


class Library:
    """`step.c` as machine code: there once it is built."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._path = folder / f"step-{_name()}.so"
        self._variables = variables
        self._compiler: subprocess.Popen[bytes] | None = None
        self._loaded: ctypes.CDLL | None = None

    def loaded(self) -> ctypes.CDLL | None:
        """The library; None while it is being built, which the first call begins and none waits for.

        Raises:
            CannotBuildError: it cannot be had.
        """
        if self._loaded:
            return self._loaded
        if self._compiler is None and not self._path.exists():
            self._compiler = self._begin()
        if self._compiler and self._compiler.poll() is None:
            return None
        if self._compiler and self._compiler.returncode:
            raise CannotBuildError("the C compiler gives up on it")
        try:
            self._loaded = ctypes.CDLL(str(self._path))
        except OSError as error:
            raise CannotBuildError(f"what was built does not load ({error})") from error
        return self._loaded

    def require(self) -> None:
        """Pass over a library that is there, or can be tried to build.

        Raises:
            CannotBuildError: there is nothing to build it with.
        """
        if not self._path.exists():
            self._found()

    def _found(self) -> str:
        compiler = _compiler(self._variables)
        if not compiler:
            raise CannotBuildError("there is no C compiler; install gcc or clang, or name one in CC")
        return compiler

    def _begin(self) -> subprocess.Popen[bytes]:
        compiler = self._found()
        building = self._path.with_suffix(f".{secrets.token_hex(4)}")
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(building), "-lm"]
        try:
            return subprocess.Popen(
                ["sh", "-c", _BUILD, "sh", *command],
                env={**self._variables, "BUILDING": str(building), "BUILT": str(self._path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the reply
            )
        except OSError as error:
            raise CannotBuildError(f"the C compiler cannot be started ({error.strerror})") from error


def library(variables: Mapping[str, str]) -> Library:
    """The library in the person's cache.

    Raises:
        CannotBuildError: the folder is not theirs alone, and what others can write to is not loaded; or it is Windows.
    """
    if os.name != "posix":
        raise CannotBuildError("on Windows nothing is built")
    folder = cache_folder(variables)
    if not is_private(folder):
        raise CannotBuildError(f"{folder} cannot be written, or others could write to it")
    return Library(folder, variables)


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Where what was compiled is kept."""
    if home := variables.get("CHATCLI_HOME"):
        return Path(home).expanduser().absolute() / "cache" / "compiled"
    from platformdirs import user_cache_path

    return user_cache_path("chatcli", appauthor=False) / "compiled"


def _compiler(variables: Mapping[str, str]) -> str | None:
    names = [variables["CC"]] if variables.get("CC") else ["cc", "gcc", "clang"]
    return next((found for each in names if (found := shutil.which(each, path=variables.get("PATH")))), None)


def _name() -> str:
    """What the machine code depends on, in a few letters: a home may be shared by machines that differ."""
    told = [SOURCE.read_text(encoding="utf-8"), *FLAGS, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(told).encode("utf-8", "replace")).hexdigest()[:16]


def _processor() -> str:
    """What its first processor can do, where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:  # noqa: PTH123  a file of the kernel
            return next((line for line in told if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()
