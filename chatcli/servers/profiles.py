"""Servers that have a name, [servers.NAME] in config.toml, and names of models at servers: "MODEL @ SERVER".

Names and fields, checked; it opens no connection and knows no key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.errors import UsageError
from chatcli.servers.address import Address, parse_address

KEYRING = "keyring"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_AT = " @ "
_FIELDS = ("url", "model", "kind", "key_from", "plain_http", "thinks")
_SWITCHES = ("plain_http", "thinks")


@dataclass(frozen=True, slots=True)
class Server:
    """A server and what a profile says of it; all but name and address may be empty.

    `key_from` is an environment variable or "keyring". With `plain_http` the key may be sent unencrypted. `thinks`
    says that the model's answers begin with thoughts, ended by `</think>`, that the server does not tell apart.
    """

    name: str
    address: Address
    model: str = ""
    kind: str = ""
    key_from: str = ""
    plain_http: bool = False
    thinks: bool = False

    @property
    def label(self) -> str:
        """What sentences call it: the profile's name, or of a URL what is not the same for all."""
        return self.address.label if self.name == self.address.url else self.name


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
        if not isinstance(value, bool if key in _SWITCHES else str):
            raise UsageError(f"servers.{name}.{key} must be {'true or false' if key in _SWITCHES else 'a text'}.")
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


def find_server(text: str, profiles: Mapping[str, Server]) -> Server:
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


def model_at(model: str, server: str) -> str:
    """One name for a model and where it is: "MODEL @ SERVER", or "@ SERVER" for the only model there."""
    return f"{model}{_AT}{server}".strip()


def model_and_server(name: str) -> tuple[str, str] | None:
    """The model and the server of such a name; None for the name of a model of this machine."""
    model, found, server = (" " + name).rpartition(_AT)
    server = server.strip()
    return (model.strip(), server) if found and (_NAME.fullmatch(server) or "://" in server or ":" in server) else None
