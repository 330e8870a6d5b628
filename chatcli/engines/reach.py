"""Reaching a server: what kind it is, which models it has, and the engine of one of them.

Asked once, before the first question, and only what is not known yet. It knows requests; of answers `remote` knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatcli.engines.refusal import BUSY, Caller, said_in
from chatcli.engines.remote import RemoteEngine
from chatcli.errors import ChatcliError, ModelNotFound
from chatcli.exchange import ExchangeFailed, Head, Patience, Request, fetch
from chatcli.generation import Progress
from chatcli.openai.kinds import (
    UNKNOWN,
    ServerKind,
    at,
    entries,
    kind_named,
    kind_of_host,
    kind_of_listing,
    kinds,
    probes,
)
from chatcli.openai.received import number
from chatcli.servers.keys import key_of
from chatcli.servers.profiles import Server, model_at
from chatcli.streaming.sanitize import sanitize

FIRST_CONTACT = Patience(connect=10.0, first=30.0, between=30.0)
PROBING = Patience(connect=2.0, first=2.0, between=2.0)
_LOADING_SECONDS = 600.0
"""So long a server may be busy with loading its model before it is given up."""
LOADING_PAUSE = 1.0
_SHOWN_MODELS = 20

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What a server says of itself: its kind, its models as /v1/models has them, and the time that took.

    `listing` is None where it has no such list.
    """

    kind: ServerKind
    listing: Sequence[Mapping[str, Any]] | None
    seconds: float

    @property
    def models(self) -> tuple[str, ...]:
        """The names of its models, clean."""
        return tuple(sanitize(str(each["id"]), single_line=True) for each in self.listing or () if each.get("id"))

    def context(self, model: str) -> int:
        """How many tokens a model can read; 0 where the server does not say."""
        entry = next((each for each in self.listing or () if each.get("id") == model), {})
        sizes = (size for path in self.kind.context if (size := number(at(dict(entry), path))))
        return next(sizes, 0)


def open_remote(server: Server, model: str, variables: Mapping[str, str], report: Report) -> RemoteEngine:
    """The engine of `model` at a server, or of the only one that it has where none is named.

    Raises:
        ModelError: the server is not there, refuses the key, or has several models.
        UsageError: the profile is wrong, or its key is missing.
    """
    known = kind_named(server.kind) if server.kind else kind_of_host(server.address.host)
    model = model or server.model
    usual = known.key_variable if known else ""
    key_of(server, variables, usual)  # refused before anything is sent
    report(Progress(f"asking {server.label}"))
    context = 0
    if known is None or not model:
        found = look(server, variables, report)
        known = found.kind
        model = model or _only(found, server)
        context = found.context(model)
    return RemoteEngine(server, known, model, lambda: key_of(server, variables, usual), context=context)


def look(server: Server, variables: Mapping[str, str], report: Report = lambda _: None) -> Found:
    """Ask a server for its models and find out its kind; one that is still loading its model is waited for.

    Raises:
        ModelError: the server is not there or refuses the key.
    """
    said_kind = kind_named(server.kind) if server.kind else kind_of_host(server.address.host)
    usual = said_kind.key_variable if said_kind else ""
    caller = Caller(server, said_kind or kinds()[UNKNOWN], server.model, lambda: key_of(server, variables, usual))
    until = time.monotonic() + _LOADING_SECONDS
    while True:
        begun = time.monotonic()
        head, body = _fetched(caller, "models", FIRST_CONTACT)
        seconds = time.monotonic() - begun
        if head.status not in BUSY or time.monotonic() > until:
            break
        report(Progress(f"waiting for {server.label}"))
        time.sleep(LOADING_PAUSE)
    if head.status in BUSY or head.status in (401, 403) or 300 <= head.status < 400:
        raise caller.refusal(head, body)
    if head.status == 200:
        caller.require_no_page(head)
    listing = said_in(body) if head.status == 200 else None
    kind = said_kind or kind_of_listing(head.headers, listing) or _probed(caller) or kinds()[UNKNOWN]
    return Found(kind, entries(listing) if listing is not None else None, seconds)


def _only(found: Found, server: Server) -> str:
    """The model of a server that has one.

    Raises:
        ModelNotFound: it has none, several, or does not say.
    """
    if len(found.models) == 1:
        return found.models[0]
    if found.listing is None:
        url = server.address.url
        raise ModelNotFound(
            f"{server.label} has no list of models at {url}: see that this is right, or {_name_one(found, server)}."
        )
    if not found.models:
        raise ModelNotFound(f"{server.label} does not say which models it has: {_name_one(found, server)}.")
    listed = ", ".join(found.models[:_SHOWN_MODELS])
    more = len(found.models) - _SHOWN_MODELS
    rest = f" and {more} more (chatcli servers test {server.name})" if more > 0 else ""
    raise ModelNotFound(f"{server.label} has {len(found.models)} models: {listed}{rest}; {_name_one(found, server)}.")


def _name_one(found: Found, server: Server) -> str:
    return f'name one, as in "{model_at(next(iter(found.models), "MODEL"), server.name)}"'


def _probed(caller: Caller) -> ServerKind | None:
    """The kind of a server whose list of models tells nothing, by pages that only it has."""
    for kind, path, field in probes():
        try:
            head, body = _fetched(caller, path, PROBING, root=True)
        except ChatcliError:
            return None
        if head.status == 200 and at(said_in(body), field) is not None:
            return kind
    return None


def _fetched(caller: Caller, page: str, patience: Patience, *, root: bool = False) -> tuple[Head, bytes]:
    address = caller.server.address
    path = f"{address.root if root else address.path}/{page}"
    try:
        return fetch(Request(address, "GET", path, caller.headers), patience)
    except ExchangeFailed as failure:
        raise caller.unreachable(failure) from None
