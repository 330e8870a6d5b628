"""Who may ask: a key where one is wanted, and no page of another site.

A server on the loopback address needs no key, but any page in this machine's browser could reach it: under a name of
its own that it lets point here (DNS rebinding), which the Host header then tells, or from its own site, which the
Origin header tells. It knows headers, no request's content.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from chatcli.openai.errors import ApiError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names by which this machine calls itself; a browser lets no other page have them."""
_KEYLESS = ("/health", "/page/")
"""Beside the page at "/" itself, which holds nothing that is not public: it asks its reader for the key."""


@dataclass(frozen=True)
class Guard:
    """What a request must have.

    With `keys`, one of them. `hosts` are the names by which the server may be called; None allows any, as over a Unix
    socket, to which no browser comes, or where a key is wanted anyway.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: frozenset[str] | None = LOOPBACK

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Pass over a request that is allowed.

        Raises:
            ApiError: it is not.
        """
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            raise ApiError(403, "This server does not answer under that host name.", code="host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ApiError(403, "This server does not answer pages of other sites.", code="origin_not_allowed")
        if self.keys and path != "/" and not path.startswith(_KEYLESS):
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, said: str) -> None:
        scheme, _, key = said.partition(" ")
        given = key.strip().encode("utf-8", "replace")
        # All of them are compared, so that time tells nothing.
        found = [hmac.compare_digest(given, each.encode("utf-8", "replace")) for each in self.keys]
        if scheme.lower() != "bearer" or not any(found):
            message = "Incorrect API key provided." if said else "You didn't provide an API key: use a Bearer token."
            raise ApiError(401, message, code="invalid_api_key")


class Guarded:
    """The application behind its guard."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or raise why not."""
        if scope["type"] == "http":
            self._guard.check(scope["method"], scope["path"], Headers(scope=scope))
        await self._app(scope, receive, send)


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    head, colon, port = host.rpartition(":")
    return (head if colon and port.isdecimal() else host).lower().rstrip(".")
