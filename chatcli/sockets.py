"""The Unix sockets of resident models: where they are, who may open them, who starts what.

A socket lies in a folder that only its owner can enter, under the hash of what its process holds. It knows no
protocol and no model.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_LONGEST = 100
"""Bytes of a socket's path that every system takes: 104 on macOS, 108 on Linux."""
_WAITING = 128


def available() -> bool:
    """Whether this system has Unix sockets and inherits them."""
    return os.name == "posix" and hasattr(socket, "AF_UNIX")


def folder(variables: Mapping[str, str]) -> Path:
    """Where the sockets of this person are; neither made nor checked yet."""
    if home := variables.get("CHATCLI_HOME"):
        place = Path(home).expanduser().absolute() / "run"
    elif runtime := variables.get("XDG_RUNTIME_DIR"):
        place = Path(runtime) / "chatcli"
    else:
        place = _shared_folder()
    if len(os.fsencode(place)) + 18 <= _LONGEST:
        return place
    return _shared_folder() / name_of(str(place))


def _shared_folder() -> Path:
    import tempfile

    return Path(tempfile.gettempdir()) / f"chatcli-{os.getuid()}"


def name_of(text: str) -> str:
    """A short name for a long text, the same on every call."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def is_private(place: Path) -> bool:
    """Whether a folder is ours alone, made so if it is missing; never through a symbolic link."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def connect(path: Path) -> socket.socket | None:
    """A connection to whoever listens at `path`; None where nobody does, or where it is somebody else's."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
        other = peer(connection)
        if other and other[1] != os.getuid():
            raise PermissionError
    except OSError:
        connection.close()
        return None
    return connection


def listen(path: Path) -> socket.socket:
    """A socket at `path`, which may be there already and dead, that nobody but its owner can open.

    Whoever connects from now on waits until somebody accepts.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_WAITING)
    return listener


def take_over(descriptor: int) -> socket.socket:
    """The listening socket that another process has made; from now on `peer` tells of this one."""
    listener = socket.socket(fileno=descriptor)
    listener.listen(_WAITING)
    return listener


def sockets(place: Path) -> list[Path]:
    """Every socket there, alive or not."""
    with suppress(OSError):
        return sorted(place.glob("*.sock"))
    return []


@contextmanager
def alone(place: Path) -> Generator[None]:
    """Let one process at a time start or end what listens in a folder."""
    import fcntl

    with (place / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hang_up(connection: socket.socket) -> None:
    """Let both sides see the end now, whoever else holds the connection: a process that was forked meanwhile does."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def until_left(connection: socket.socket) -> Generator[socket.socket]:
    """The connection, hung up and closed when the block is left."""
    with closing(connection):
        try:
            yield connection
        finally:
            hang_up(connection)


def lines(connection: socket.socket, pause: float | None) -> Iterator[bytes | None]:
    """Lines as they come, and None whenever `pause` seconds bring none; ends where the other side does."""
    connection.settimeout(pause)
    rest = b""
    while True:
        try:
            piece = connection.recv(1 << 16)
        except TimeoutError:
            yield None
            continue
        except OSError:
            return
        if not piece:
            return
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def peer(connection: socket.socket) -> tuple[int, int] | None:
    """The process that listens on the other side and its owner, as numbers; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid
