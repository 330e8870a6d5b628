"""The database as a file: private, shared between processes, and what to say when it fails.

Knows no table; the tables are in `migrations`, the rows in `store`.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from chatcli.errors import HistoryError
from chatcli.history.migrations import migrate, require_present_version

BUSY_SECONDS = 5.0
"""How long to wait for another process to end its transaction."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file in its present shape, made if need be, readable by nobody else.

    Raises:
        HistoryError: a later chatcli wrote it.
        sqlite3.Error: it cannot be opened or is no database.
        OSError: it cannot be made.

    """
    _make_private(path)
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        _use_wal(database)
        return configured(database)
    except BaseException:
        database.close()
        raise


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file of the present shape where nothing can be written, not even SQLite's files beside it.

    Raises:
        HistoryError: another version wrote it.
        sqlite3.Error: it cannot be opened or is no database.

    """
    shared = all(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-shm"))
    # Without the files beside it nobody is writing; SQLite must be told so, or it insists on making them.
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if shared else '&immutable=1'}"
    database = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        require_present_version(database)
    except BaseException:
        database.close()
        raise
    return database


def configured(database: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, which is in autocommit mode, with the tables and the rules that every one of ours has."""
    database.execute("PRAGMA foreign_keys = ON")
    migrate(database)
    return database


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; of two processes that do so at once SQLite refuses one without waiting."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _make_private(path: Path) -> None:
    """Make the folder 0700 and the file 0600; SQLite gives its -wal and -shm files the mode of the file."""
    for folder in (*reversed(path.parent.parents), path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    # Only a file that is not there: closing another handle of an open database would drop SQLite's locks.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def open_or_set_aside(path: Path, now: Callable[[], float]) -> tuple[sqlite3.Connection, str]:
    """The open file and no notice; a damaged file is moved aside, a new one begun, and the notice tells.

    Raises:
        HistoryError: a later chatcli wrote it.
        sqlite3.Error: it cannot be opened.
        OSError: it cannot be made or moved.

    """
    try:
        if not _would_lose_its_log(path):
            return connect(path), ""
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    with _one_process_at_a_time(path):
        try:
            if not _would_lose_its_log(path):
                return connect(path), ""  # another process that met the same damage has begun a new file
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        aside = move_aside(path, now())
        return connect(path), f"The history was damaged and is now at {aside}; a new one has begun."


def _would_lose_its_log(path: Path) -> bool:
    """Whether there is a log beside a file that is no database: SQLite, to which it is another's, would delete it."""
    if not Path(f"{path}-wal").exists():
        return False
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.Error as error:
        return is_damage(error)
    finally:
        database.close()
    return False


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is spoiled; those two errors come as the base class itself, all else as a subclass."""
    return type(error) is sqlite3.DatabaseError


def move_aside(path: Path, now: float) -> Path:
    """Rename the file and SQLite's two beside it; returns the new place, which has the time (UTC) in its name."""
    name = f"{path.name}.corrupt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    aside = next(place for place in map(path.with_name, names) if not place.exists())
    # The file itself last: a new one beside the -wal of the old would be filled from it.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


@contextmanager
def _one_process_at_a_time(path: Path) -> Generator[None]:
    """Hold a lock that ends with the process, whatever ends that; where there are no such locks, do without."""
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be renamed anyway
        yield
        return
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn what SQLite and the system raise into a `HistoryError` of one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise HistoryError(f"The history at {path} is damaged ({error}); move the file away.") from error
        if "locked" in str(error):
            raise HistoryError(
                f"The history at {path} was locked by another program for {BUSY_SECONDS:.0f} seconds; close it."
            ) from error
        raise HistoryError(
            f"The history at {path} cannot be read or written ({error}); see that the disk has room and allows it."
        ) from error
    except OSError as error:
        raise HistoryError(
            f"The history at {path} cannot be opened ({error.strerror}); set CHATCLI_HOME to a folder that can be "
            "written to."
        ) from error
