"""What goes wrong between us and a server, in sentences, and whether another try may help.

It knows statuses, headers and a server's own words; it makes no request.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.errors import (
    ChatcliError,
    ContextOverflow,
    EngineError,
    ModelGated,
    ModelNotFound,
    ModelUnreachable,
    UsageError,
)
from chatcli.exchange import ExchangeFailed, Head
from chatcli.openai.kinds import ServerKind
from chatcli.openai.received import sentence
from chatcli.servers.keys import usual_source
from chatcli.servers.profiles import KEYRING, Server
from chatcli.streaming.sanitize import sanitize

BUSY = frozenset({429, 500, 502, 503, 504})
"""Statuses that another try may change."""
LONGEST_PAUSE = 60.0
"""Seconds that a server may want to be left alone before it is given up."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks whom for what; `key` is looked up every time and may be empty."""

    server: Server
    kind: ServerKind
    model: str
    key: Callable[[], str]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        key = self.key()
        return {"Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def clean(self, text: str) -> str:
        """A server's words for people, without the key, which some repeat."""
        key = self.key()
        return sanitize(text.replace(key, "[key]") if key else text, single_line=True)

    def words(self, body: bytes) -> str:
        """What the server says of an error, in a short sentence without its end; empty where it says nothing."""
        return self.clean(sentence(said_in(body), self.kind)).rstrip(".")

    def refusal(self, head: Head, body: bytes) -> ChatcliError:
        """The error that a status other than 200 is."""
        name, status, words = self.server.label, head.status, self.words(body)
        told = f": {words}" if words else ""
        if status in BUSY:
            wait = retry_after(head)
            if wait > LONGEST_PAUSE:
                return EngineError(f"{name} wants to be left alone for {wait:.0f} seconds{told}.")
            return EngineError(f"{name} answers with an error, {status}{told}; try again later.")
        if 300 <= status < 400:
            to = self.clean(head.headers.get("location", "elsewhere"))
            return UsageError(f"{name} sends us to {to}: if that is the server you mean, use its address.")
        if status in (401, 403):
            return ModelGated(f"{name} {self._of_the_key()} ({status}){told}.")
        if status == 404:
            what = f"model {self.model}, or no API" if self.model else "API"
            return ModelNotFound(
                f"{name} has no {what} there ({status}){told}; chatcli servers test {self.server.name} looks."
            )
        if any(part in json.dumps(said_in(body)).lower() for part in self.kind.too_long):
            return ContextOverflow(f"The talk is too long for {self.model} at {name}{told}.")
        return UsageError(f"{name} does not take the request ({status}){told}.")

    def require_no_page(self, head: Head) -> None:
        """Refuse what is for a browser, which a wrong URL leads to.

        Raises:
            UsageError: it is.
        """
        if head.headers.get("content-type", "").startswith("text/html"):
            url = self.server.address.url
            raise UsageError(f"{self.server.label} answers with a page for a browser: {url} is not where its API is.")

    def unreachable(self, failure: ExchangeFailed) -> ChatcliError:
        """The error that a connection is which brought nothing."""
        kind = EngineError if failure.kind in ("cut", "silent") else ModelUnreachable
        return kind(f"{self.server.label} {self.clean(str(failure))}.")

    def _of_the_key(self) -> str:
        source = self.server.key_from or usual_source(self.server, self.kind.key_variable)
        if not source:
            return f"wants a key: chatcli servers add {self.server.label} URL --key-from VARIABLE says where it is"
        where = "the keyring" if source == KEYRING else source
        return f"refuses the key from {where}" if self.key() else f"wants a key, and {where} is not set"


def said_in(body: bytes) -> Any:
    """The JSON of an answer; any other text as a message, but for a page of HTML, which is for a browser."""
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {} if "<" in text[:100] else {"message": text[:200]}


def retry_after(head: Head) -> float:
    """Seconds that the server wants to be left alone, 0 where it does not say: RFC 9110, 10.2.3."""
    text = head.headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
        return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def parameter_of(body: bytes) -> str:
    """The parameter that an error blames by name, as OpenAI's do; mostly empty."""
    said = said_in(body)
    error = said.get("error") if isinstance(said, Mapping) else None
    return str(error.get("param") or "") if isinstance(error, Mapping) else ""
