"""Servers of the OpenAI API as people name them: a URL, or the name of a profile in config.toml.

Names, addresses and where a key comes from; it opens no connection. A key is looked up when a request is made, and
is kept nowhere but in the environment or the keyring of the system.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from chatcli.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_LOCAL = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_AT = " @ "
KEYRING = "keyring"
KEY_VARIABLE = "CHATCLI_SERVER_KEY"
"""Holds the key of a server that is named by its URL."""
_SERVICE = "chatcli"
_FIELDS = ("url", "model", "kind", "key_from", "plain_http")


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
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def root(self) -> str:
        """The path of the server's own pages, beside the API."""
        return self.path.removesuffix("/v1")

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this machine."""
        return bool(self.socket or _LOCAL.fullmatch(self.host))


@dataclass(frozen=True, slots=True)
class Server:
    """A server and what a profile says of it; all but name and address may be empty.

    `key_from` is an environment variable or "keyring". With `plain_http` the key may be sent unencrypted.
    """

    name: str
    address: Address
    model: str = ""
    kind: str = ""
    key_from: str = ""
    plain_http: bool = False

    @property
    def label(self) -> str:
        """What sentences call it: the profile's name, or of a URL what is not the same for all."""
        address = self.address
        return (address.socket or address.authority) if self.name == address.url else self.name


def parse_address(text: str) -> Address:
    """The address in a URL; `localhost:8000` and `unix:/path/to/socket` are some, too.

    Raises:
        UsageError: it is none, or holds a password, which a command line must not.
    """
    text = text.strip()
    if text.startswith("unix:"):
        path = "/" + text.removeprefix("unix:").lstrip("/")
        return Address("http", "localhost", 80, socket=path)
    if "://" not in text:
        text = f"{'http' if _LOCAL.fullmatch(_host(text)) else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The server's URL is wrong ({error}): write it as in http://localhost:8000/v1.") from None
    if parts.username or parts.password:
        raise UsageError("A server's URL must not hold a name and a password: name a variable with --key-from.")
    if parts.scheme not in ("http", "https") or not host or not host.isprintable() or " " in host:
        raise UsageError("The server's URL is wrong: write it as in http://localhost:8000/v1.")
    path = unquote(parts.path).rstrip("/").removesuffix("/chat/completions").removesuffix("/models")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError("The server's URL has a path that no server has: write it as in http://localhost:8000/v1.")
    return Address(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], path or "/v1")


def _host(text: str) -> str:
    authority = text.partition("/")[0]
    return authority[1:].partition("]")[0] if authority.startswith("[") else authority.rpartition(":")[0] or authority


def read_profile(name: str, said: object) -> Server:
    """The server of a table [servers.NAME] in config.toml.

    Raises:
        UsageError: it says what cannot be.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f'A server cannot be named "{name}": use letters, digits, dashes and underscores.')
    if not isinstance(said, dict) or not isinstance(said.get("url"), str):
        raise UsageError(f'servers.{name} needs its url, as in url = "http://localhost:8000/v1".')
    for key, value in said.items():
        if key not in _FIELDS:
            raise UsageError(f"servers.{name} has no {key}: there are {', '.join(_FIELDS)}.")
        if not isinstance(value, bool if key == "plain_http" else str):
            raise UsageError(f"servers.{name}.{key} must be {'true or false' if key == 'plain_http' else 'a text'}.")
    check_key_source(said.get("key_from", ""))
    rest: dict[str, Any] = {key: value for key, value in said.items() if key != "url"}
    return Server(name, parse_address(said["url"]), **rest)


def check_key_source(source: str) -> None:
    """Pass over the name of an environment variable or "keyring".

    Raises:
        UsageError: it is neither, and may be the key itself, so it is not repeated.
    """
    if source and source != KEYRING and not _VARIABLE.fullmatch(source):
        raise UsageError(
            "--key-from is the name of an environment variable in capital letters, or keyring; never the key itself."
        )


def find(text: str, profiles: Mapping[str, Server]) -> Server:
    """The server that a person calls so: the name of a profile, else a URL.

    Raises:
        UsageError: it is neither.
    """
    if text in profiles:
        return profiles[text]
    if _NAME.fullmatch(text) and text != "localhost":
        there = f"known: {', '.join(profiles)}" if profiles else "none is known yet"
        raise UsageError(f"There is no server {text} ({there}); chatcli servers add {text} URL makes one.")
    address = parse_address(text)
    return Server(address.url, address)


def at(model: str, server: str) -> str:
    """One name for a model and where it is: "MODEL @ SERVER", or "@ SERVER" for the only model there."""
    return f"{model}{_AT}{server}".strip()


def split(name: str) -> tuple[str, str] | None:
    """The model and the server of such a name; None for the name of a model of this machine."""
    model, found, server = (" " + name).rpartition(_AT)
    server = server.strip()
    return (model.strip(), server) if found and (_NAME.fullmatch(server) or "://" in server or ":" in server) else None


def key_of(server: Server, variables: Mapping[str, str], usual: str = "") -> str:
    """The server's key, empty where it has none; `usual` is the variable that holds a service's key.

    Raises:
        UsageError: the key is not where it should be, or would travel unencrypted.
    """
    if server.key_from == KEYRING:
        key = _keyring().get_password(_SERVICE, _account(server)) or ""
        if not key:
            raise UsageError(
                f"The keyring has no key for {server.label} at {server.address.url}: "
                f"chatcli servers add {server.name} {server.address.url} --key-from keyring asks for it."
            )
    elif server.key_from:
        key = variables.get(server.key_from, "").strip()
        if not key:
            raise UsageError(f"The key of {server.label} should be in {server.key_from}, which is not set.")
    else:
        key = variables.get(usual_source(server, usual), "").strip()
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError(f"The key of {server.label} has characters that no key has: see where it comes from.")
    if key and server.address.scheme == "http" and not (server.address.is_local or server.plain_http):
        raise UsageError(
            f"The key of {server.label} would travel unencrypted to {server.address.authority}: use an https URL, or "
            "allow it with chatcli servers add ... --plain-http."
        )
    return key


def usual_source(server: Server, usual: str) -> str:
    """The variable that holds the key of a server of which nobody says where it is, empty where that is none.

    A service has its own; a URL alone takes CHATCLI_SERVER_KEY, which no profile does: it is for another server.
    """
    return usual or (KEY_VARIABLE if server.name == server.address.url else "")


def keep_key(server: Server, key: str) -> None:
    """Put a key into the keyring, for this name and this address alone."""
    _keyring().set_password(_SERVICE, _account(server), key)


def forget_key(server: Server) -> None:
    """Take the server's key out of the keyring, where it is."""
    keyring = _keyring()
    if keyring.get_password(_SERVICE, _account(server)) is not None:
        keyring.delete_password(_SERVICE, _account(server))


def _account(server: Server) -> str:
    address = server.address
    return f"{server.name} {address.socket or f'{address.scheme}://{address.authority}'}"


def _keyring() -> Any:
    try:
        import keyring
    except ImportError:
        raise UsageError(
            "Keys in the keyring need its package: pip install 'chatcli[servers]'; or name a variable with --key-from."
        ) from None
    return _Guarded(keyring)


class _Guarded:
    """The keyring, whose own errors become sentences: it may be locked, or there is none on a server."""

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: str) -> Any:
            try:
                return getattr(self._keyring, name)(*arguments)
            except self._keyring.errors.KeyringError as error:
                raise UsageError(
                    f"The keyring cannot be used ({error}): unlock it, or name a variable with --key-from."
                ) from None

        return called
