"""`chatcli models`: what lies on this machine, as lines for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatcli.environment import Environment, real_environment

if TYPE_CHECKING:
    from chatcli.cli.models.facts import Model

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs: nothing is cut or rounded.")]

EMPTY = "There is no model on this machine yet: `chatcli pull Qwen/Qwen3-0.6B` fetches a small one."
_HEADER = ("NAME", "FAMILY", "PARAMS", "PRECISION", "SIZE", "USED", "CHAT")
_LEAST_WANTED_FIRST = (1, 3, 2, 5, 6)  # the size stays
_DAY = 86400
_AGES = ((365 * _DAY, "year"), (30 * _DAY, "month"), (7 * _DAY, "week"), (_DAY, "day"))


def models_list(context: typer.Context, as_json: AsJson = False) -> int:
    """List the models on this machine, the last used first.

    They are looked for in the Hub's cache, in ModelScope's and in the folders of the setting model_folders.
    """
    if context.invoked_subcommand:
        return 0
    from chatcli.cli.models.facts import known
    from chatcli.config import load
    from chatcli.models.extent import last_used
    from chatcli.models.inventory import inventory
    from chatcli.models.places import places
    from chatcli.streaming.sanitize import sanitize

    environment = real_environment()
    here = places(environment.variables, load(environment).model_folders)
    found = inventory(here, lambda text: environment.warn(f"chatcli: {sanitize(text, single_line=True)}"))
    models = known(found, environment)
    used = {each.found.path: last_used(each.extent.read) for each in models}
    models.sort(key=lambda each: (-used[each.found.path], each.found.name.lower()))
    if as_json:
        print(json.dumps([_fields(m, used[m.found.path]) for m in models], ensure_ascii=False, indent=2))
        return 0
    if not models:
        environment.note(EMPTY)
        return 0
    _print([_row(m, used[m.found.path], environment.now()) for m in models], environment)
    for each in models:
        if each.facts.no_chat == "not whole" and each.found.source != "folder":
            environment.note(f"{each.found.name} is not whole: {how_to_go_on(each)}")
    return 0


def _print(rows: Sequence[tuple[str, ...]], environment: Environment) -> None:
    from chatcli.render.columns import columns, fitted

    if environment.stdout_is_terminal:
        lines = fitted([_HEADER, *rows], environment.terminal_size().columns, _LEAST_WANTED_FIRST)
    else:
        lines = columns([_HEADER, *rows])
    for line in lines:
        print(line)


def how_to_go_on(model: Model) -> str:
    """What a person does about a model of which a part is missing."""
    source = " --source modelscope" if model.found.source == "modelscope" else ""
    revision = f" --revision {model.found.label}" if model.found.label else ""
    return f"`chatcli pull {model.found.name}{revision}{source}` goes on."


def _row(model: Model, used: float, now: float) -> tuple[str, ...]:
    found, facts = model.found, model.facts
    return (
        found.name + (f" ({found.label})" if found.label else ""),
        facts.family,
        count(facts.parameters) if facts.parameters else "",
        facts.precision,
        _size(model),
        age(now - used) if used else "",
        facts.no_chat or "yes",
    )


def _size(model: Model) -> str:
    here, wanted = model.extent.bytes, model.extent.wanted
    if not wanted:
        return size(here)
    shown, unit = size(wanted).split()
    return f"{size(here, unit).split()[0]} of {shown} {unit}"


def _fields(model: Model, used: float) -> dict[str, Any]:
    found, facts, extent = model.found, model.facts, model.extent
    return {
        "name": found.name,
        "source": found.source,
        "path": str(found.path),
        "revision": found.commit or None,
        "label": found.label or None,
        "family": facts.family or None,
        "parameters": facts.parameters,
        "precision": facts.precision or None,
        "bytes": extent.bytes,
        "wanted_bytes": extent.wanted or None,
        "complete": extent.whole,
        "last_used": datetime.fromtimestamp(used, timezone.utc).isoformat(timespec="seconds") if used else None,
        "chats": not facts.no_chat,
        "why_not": facts.no_chat or None,
    }


def size(count: int, unit: str = "") -> str:
    """Bytes for people, in the unit that fits or in `unit`: "1.5 GB"."""
    steps = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
    unit = unit or next((name for name, step in steps.items() if count >= step), "kB")
    amount = count / steps[unit]
    return f"{amount:.0f} {unit}" if amount >= 99.5 else f"{amount:.1f} {unit}"


def count(parameters: int) -> str:
    """Parameters for people: "0.6 B", "15 M"."""
    steps = {"B": 1e9, "M": 1e6, "k": 1e3}
    unit = next((name for name, step in steps.items() if parameters >= step / 10), "k")
    amount = parameters / steps[unit]
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def age(seconds: float) -> str:
    """How long ago, for people: "today", "3 days ago"."""
    if seconds < _DAY:
        return "today"
    step, name = next(each for each in _AGES if seconds >= each[0])
    number = int(seconds // step)
    return f"{number} {name}{'s' * (number > 1)} ago"
