"""Where the key of a server comes from: the environment, or the keyring of the system.

A key is looked up when a request is made, is kept nowhere else, and stands in no error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatcli.errors import UsageError
from chatcli.servers.profiles import KEYRING, Server

KEY_VARIABLE = "CHATCLI_SERVER_KEY"
"""Holds the key of a server that is named by its URL."""
_SERVICE = "chatcli"


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
                cause = str(error).partition(". ")[0]
                raise UsageError(
                    f"The keyring cannot be used ({cause}): unlock it, or name a variable with --key-from."
                ) from None

        return called
