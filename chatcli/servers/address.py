"""Where a server listens: a URL, taken apart.

Text only, where a socket is named by a path from here this folder, too; it opens no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from chatcli.errors import UsageError

_LOCAL = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `path` leads to the API, "/v1" mostly; with a `socket` it is one of this machine."""

    scheme: str
    host: str
    port: int
    path: str = "/v1"
    socket: str = ""

    @property
    def url(self) -> str:
        """As a person writes it."""
        if self.socket:
            return f"unix:{self.socket}"
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def label(self) -> str:
        """What tells it from others, in a word."""
        return self.socket.rpartition("/")[2] or self.authority

    @property
    def root(self) -> str:
        """The path of the server's own pages, beside the API."""
        return self.path.removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this machine."""
        return bool(self.socket or _LOCAL.fullmatch(self.host))


def parse_address(text: str) -> Address:
    """The address in a URL; `localhost:8000` and `unix:/path/to/socket` are some, too, and so is a path from here.

    Raises:
        UsageError: it is none, or holds a password, which a command line must not.
    """
    text = text.strip()
    if text.startswith("unix:"):
        path = re.sub(r"^//+", "/", text.removeprefix("unix:"))
        if not path.strip("/"):
            raise UsageError("The server's URL names no socket: write it as in unix:/path/to/socket.")
        return Address("http", "localhost", 80, socket=str(Path(path).absolute()))
    if "://" not in text:
        text = f"{'http' if _LOCAL.fullmatch(_host(text)) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The server's URL is wrong ({error}): write it as in http://localhost:8000/v1.") from None
    if parts.username or parts.password:
        raise UsageError("A server's URL must not hold a name and a password: name a variable with --key-from.")
    if parts.query or parts.fragment:
        raise UsageError("A server's URL has no ? and no #: write it as in http://localhost:8000/v1.")
    if parts.scheme not in ("http", "https") or not host or not host.isprintable() or " " in host:
        raise UsageError("The server's URL is wrong: write it as in http://localhost:8000/v1.")
    path = unquote(parts.path).rstrip("/").removesuffix("/chat/completions").removesuffix("/models")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError("The server's URL has a path that no server has: write it as in http://localhost:8000/v1.")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], path or "/v1")


def _host(text: str) -> str:
    authority = text.partition("/")[0]
    return authority[1:].partition("]")[0] if authority.startswith("[") else authority.rpartition(":")[0] or authority
