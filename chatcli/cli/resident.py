"""`chatcli ps` and `chatcli stop`: the models that stay in memory between calls."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.environment import real_environment
from chatcli.errors import ModelNotFound

if TYPE_CHECKING:
    from pathlib import Path

    from chatcli.wire import Status


_HEADER = ("MODEL", "STATE", "SIZE", "DEVICE", "PRECISION", "LEAVES IN", "PID")
_LEAST_WANTED = (6, 4, 3, 2, 5, 1)
"""Which columns are left out first where there is no room for all."""


def ps(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> int:
    """List the models that stay in memory, and for how long they will."""
    from chatcli.render.columns import columns, fitted

    environment = real_environment()
    found = [status for _, status in _statuses()]
    if as_json:
        print(json.dumps([_finite(asdict(each)) for each in found], ensure_ascii=False, indent=2))
        return 0
    if not found:
        environment.note("No model is in memory.")
        return 0
    rows = [_HEADER, *map(_row, found)]
    terminal = environment.stdout_is_terminal
    for line in fitted(rows, environment.terminal_size().columns, _LEAST_WANTED) if terminal else columns(rows):
        print(line)
    return 0


def stop(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Which to end; default: all that are in memory.")
    ] = None,
) -> int:
    """End models that stay in memory, an answer under way as well."""
    from chatcli.cli.opening import full_name
    from chatcli.config import load
    from chatcli.engines.resident import stop as end

    environment = real_environment()
    config = load(environment)
    found = _statuses()
    for name in models or ():
        if full_name(name, config) not in (status.model for _, status in found):
            here = ", ".join(status.model for _, status in found)
            raise ModelNotFound(f"{name} is not in memory; {f'there are: {here}' if here else 'no model is'}.")
    wanted = {full_name(name, config) for name in models or ()}
    for path, status in found:
        if not wanted or status.model in wanted:
            end(path)
            environment.note(f"{status.model} has left.")
    if not found:
        environment.note("No model is in memory.")
    return 0


def _statuses() -> list[tuple[Path, Status]]:
    from chatcli import sockets

    if not sockets.available():
        return []
    from chatcli.engines.resident import statuses

    return statuses(sockets.folder(real_environment().variables))


def _finite(values: dict[str, object]) -> dict[str, object]:
    """JSON has no infinity: for ever is null."""
    return {key: None if value == float("inf") else value for key, value in values.items()}


def _row(status: Status) -> tuple[str, ...]:
    from chatcli.cli.models.listing import size

    taken = size(status.bytes) if status.bytes else ""
    leaves = _time(status.remaining) if status.state == "idle" else ""
    return status.model, status.state, taken, status.device, status.precision, leaves, str(status.pid)


def _time(seconds: float) -> str:
    if seconds == float("inf"):
        return "never"
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.0f} h"
    )
