"""The kinds of servers, rows of servers.toml, and how a server is told to be of one.

A row is data. This module reads the table and compares names; it asks no server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from chatcli.errors import UsageError

UNKNOWN = "other"
"""The kind of a server that none of the others is: it gets what all take."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A row of servers.toml, where its keys are explained, with what all kinds have in common beneath."""

    name: str
    title: str
    hosts: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    owned_by: tuple[str, ...] = ()
    entry: str = ""
    probe: tuple[str, ...] = ()
    key_variable: str = ""
    send: Mapping[str, Any] = field(default_factory=dict)
    constraint: Mapping[str, Any] = field(default_factory=dict)
    reasoning: tuple[str, ...] = ()
    finish: Mapping[str, str] = field(default_factory=dict)
    cached: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    too_long: tuple[str, ...] = ()
    notes: str = ""


@cache
def kinds() -> Mapping[str, ServerKind]:
    """Every kind by its name, `UNKNOWN` last."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    table = tomllib.loads((files("chatcli.openai") / "servers.toml").read_text(encoding="utf-8"))
    common = table.pop("common")
    rows = {name: _over(_inherited(row, table), common) for name, row in table.items()}
    return {name: _kind(name, row) for name, row in {**rows, UNKNOWN: common}.items()}


def kind_named(name: str) -> ServerKind:
    """The kind that a person calls `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in kinds():
        raise UsageError(f'There is no kind of server "{name}": there are {", ".join(kinds())}.')
    return kinds()[name]


def kind_of_host(host: str) -> ServerKind | None:
    """The service that this host is of; None for any other."""
    return next((kind for kind in kinds().values() if host in kind.hosts), None)


def kind_of_listing(headers: Mapping[str, str], listing: object) -> ServerKind | None:
    """The kind of server that answers so to /v1/models; None where that does not tell. Headers in lower case."""
    models = entries(listing)
    for kind in kinds().values():
        by_header = any(name in headers and part in headers[name].lower() for name, part in kind.headers.items())
        by_owner = any(str(each.get("owned_by")) in kind.owned_by for each in models)
        by_field = bool(kind.entry) and any(at(each, kind.entry) is not None for each in models)
        if by_header or by_owner or by_field:
            return kind
    return None


def probes() -> Iterator[tuple[ServerKind, str, str]]:
    """What may be asked of a server whose listing tells nothing: kind, path, field."""
    for kind in kinds().values():
        if kind.probe:
            path, field_there = kind.probe
            yield kind, path, field_there


def entries(listing: object) -> list[dict[str, Any]]:
    """The models of /v1/models, also where they stand without the list around them."""
    found = listing.get("data", listing.get("models")) if isinstance(listing, dict) else listing
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def at(value: object, path: str) -> Any:
    """What is at a path with dots in JSON; None where nothing is."""
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _inherited(row: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """The row over the one that it is `like`."""
    own = {key: value for key, value in row.items() if key != "like"}
    if "like" not in row:
        return own
    above = {key: value for key, value in table[row["like"]].items() if key not in ("owned_by", "headers", "probe")}
    return _over(own, above)


def _over(row: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what it leaves open taken from `below`; of send, constraint and finish, entry by entry."""
    tables = {
        key: {**below.get(key, {}), **row.get(key, {})}
        for key in ("send", "constraint", "finish")
        if key in below or key in row
    }
    return {**below, **row, **tables}


def _kind(name: str, row: Mapping[str, Any]) -> ServerKind:
    said: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return ServerKind(name, **said)
