"""The store as the history commands open it, and the lines by which they name conversations."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcli.environment import Environment
from chatcli.streaming.sanitize import sanitize

if TYPE_CHECKING:
    from chatcli.history.records import Summary
    from chatcli.history.store import Store

_MODEL_COLUMNS = 24
_TITLE_COLUMNS = 16


def open_store(environment: Environment) -> Store:
    """The stored conversations, to be read where they cannot be written; a line says what was wrong with the file.

    Raises:
        HistoryError: they cannot be read.
    """
    from chatcli.history.store import Store

    store = Store.open_to_read(environment.data_folder / "history.db")
    if store.notice:
        print(f"chatcli: {sanitize(store.notice, single_line=True)}", file=environment.stderr)
    return store


def described(each: Summary, environment: Environment) -> str:
    """A conversation in one line: id, date, turns, model, title; in a terminal no wider than that."""
    from chatcli.history.titles import columns, shortened

    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.updated_at))
    model = sanitize(each.model, single_line=True)
    line = f"{each.id}  {when}  {each.turns:>3}  "
    title = sanitize(each.title, single_line=True)
    if not environment.stdout_is_terminal:
        return f"{line}{model}  {title}"
    room = shutil.get_terminal_size().columns - 1 - columns(line)
    model = shortened(Path(model).name if Path(model).is_absolute() else model, _MODEL_COLUMNS) + "  "
    if room - columns(model) < _TITLE_COLUMNS:
        model = ""  # in a narrow window the title says more
    return line + model + shortened(title, max(room - columns(model), _TITLE_COLUMNS))


def fields(each: Summary) -> dict[str, Any]:
    """The same for programs."""
    from chatcli.history.document import moment

    return {
        "id": each.id,
        "title": each.title,
        "model": each.model,
        "created_at": moment(each.created_at),
        "updated_at": moment(each.updated_at),
        "turns": each.turns,
    }
