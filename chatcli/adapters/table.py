"""The rows of table.toml and the rule by which a model finds its own.

A row is data: patterns, a template's file name, stop texts, sampling. This module compares names; it
opens no checkpoint and renders nothing.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from typing import Any

from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings


@dataclass(frozen=True, slots=True)
class Adapter:
    """One family, as table.toml describes its fields."""

    name: str
    match: tuple[str, ...] = ()
    model_type: tuple[str, ...] = ()
    template: str = ""
    overrules: bool = False
    always_chats: bool = False
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ("<think>", "</think>")
    defaults: GenerationSettings = field(default_factory=GenerationSettings)
    examples: tuple[str, ...] = ()
    port: str = ""
    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    rereads: bool = False
    cleanup: str = ""
    notes: str = ""

    @property
    def template_text(self) -> str:
        """The row's template, read from templates/; empty where the row has none."""
        if not self.template:
            return ""
        return (files("chatcli.adapters") / "templates" / self.template).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Match:
    """The row that applies; `reason` says why, for people; `by` says it for code."""

    adapter: Adapter
    reason: str
    by: str


@lru_cache(maxsize=1)
def rows() -> tuple[Adapter, ...]:
    """All rows of the table that chatcli ships."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = (files("chatcli.adapters") / "table.toml").read_text(encoding="utf-8")
    return tuple(_row(name, row) for name, row in tomllib.loads(text).items())


def examples() -> tuple[str, ...]:
    """Ids on the Hub that exist, for suggestions."""
    return tuple(example for row in rows() for example in row.examples)


def ports() -> dict[str, str]:
    """The model types that only a port of ours runs, each with the port's module in `runtime.ports`."""
    return {kind: row.port for row in rows() if row.port for kind in row.model_type}


def _row(name: str, row: Mapping[str, Any]) -> Adapter:
    known = {f.name for f in fields(Adapter)} - {"name"}
    if unknown := set(row) - known:
        raise ValueError(f"row {name} has unknown fields {sorted(unknown)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "defaults" in values:
        values["defaults"] = GenerationSettings(**values["defaults"])
    return Adapter(name, **values)


def match(name: str, model_type: str = "", flag: str = "") -> Match | None:
    """The row for a model, or None where no row knows it.

    First what the person says (`flag`, a row's name); then config.json's `model_type`, which decides
    alone where one row claims it and else narrows; then the most specific pattern of the name.

    Raises:
        UsageError: the flag names no row.
    """
    table = rows()
    if flag:
        return Match(_named(flag, table), "it was asked for", "flag")
    claiming = [row for row in table if model_type and model_type in row.model_type]
    if len(claiming) == 1:
        by_name = _most_specific(name, claiming)
        row = claiming[0]
        if by_name:
            return Match(row, f'config.json says "{model_type}" and the name fits {by_name[0]}', "name")
        return Match(row, f'config.json says "{model_type}"', "model_type")
    # A family without rows of its own, such as a port under a new model_type, may still go by its name.
    if found := _most_specific(name, claiming or table):
        return Match(found[1], f"the name fits {found[0]}", "name")
    return None


def _named(flag: str, table: tuple[Adapter, ...]) -> Adapter:
    names = {row.name: row for row in table}
    if flag.lower() in names:
        return names[flag.lower()]
    near = difflib.get_close_matches(flag.lower(), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}."
    raise UsageError(f"There is no adapter {flag}: {hint}")


def patterns(name: str) -> list[tuple[int, str, Adapter]]:
    """Every pattern that fits a name, with its count of literal characters, the most specific first."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    fitting = [
        (sum(c not in "*?" for c in pattern), pattern, row)
        for row in rows()
        for pattern in row.match
        if fnmatchcase(last, pattern)
    ]
    return sorted(fitting, key=lambda found: -found[0])


def _most_specific(name: str, among: list[Adapter] | tuple[Adapter, ...]) -> tuple[str, Adapter] | None:
    return next(((pattern, row) for _, pattern, row in patterns(name) if row in among), None)
