"""Changes of config.toml that leave the rest of the file, its comments and line ends as a person wrote them.

What a setting may be is `config`'s business; nothing here is needed to read one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcli import config
from chatcli.environment import Environment
from chatcli.errors import ConfigError, UsageError
from chatcli.servers.profiles import Server, find_server, read_profile

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def set_value(environment: Environment, key: str, text: str) -> None:
    """Write a setting, or `alias.NAME`, to config.toml; the rest of the file stays as it is.

    Raises:
        ConfigError: the file is wrong already, or cannot be written.
        UsageError: there is no such setting, or it cannot have this value.

    """
    file = config.path(environment)
    servers = config.read(file)[2]
    if key == "server":
        find_server(text, servers)
    document = _document(file)
    _put(document, key, text)
    _replace(file, document.as_string())


def unset_value(environment: Environment, key: str) -> None:
    """Take a setting, or `alias.NAME`, out of config.toml; the rest of the file stays as it is.

    Raises:
        ConfigError: the file is wrong already, or cannot be written.
        UsageError: it is not set there.

    """
    if key.startswith("alias."):
        remove_alias(environment, key.removeprefix("alias."))
        return
    file = config.path(environment)
    if key not in config.read(file)[0]:
        raise UsageError(f"{key} is not set in {file}: chatcli config show tells where each value comes from.")
    document = _document(file)
    del document[key]
    _replace(file, document.as_string())


def remove_alias(environment: Environment, name: str) -> None:
    """Take a short name out of config.toml; the rest of the file stays as it is.

    Raises:
        ConfigError: the file is wrong already, or cannot be written.
        UsageError: it has no such alias.

    """
    file = config.path(environment)
    if name not in config.read(file)[1]:
        raise UsageError(f"There is no alias {name}: `chatcli models alias` lists them.")
    document = _document(file)
    aliases: Any = document["alias"]
    del aliases[name]
    _replace(file, document.as_string())


def set_server(environment: Environment, name: str, fields: Mapping[str, str | bool]) -> Server:
    """Write the profile of a server, in place of one of the same name; returns it.

    Raises:
        ConfigError: the file is wrong already, or cannot be written.
        UsageError: the name or a field cannot be.

    """
    import tomlkit

    file = config.path(environment)
    config.read(file)
    server = read_profile(name, dict(fields))
    document = _document(file)
    servers: Any = document.setdefault("servers", tomlkit.table(is_super_table=True))
    profile = servers.setdefault(name, tomlkit.table())
    for key in [key for key in profile if key not in fields]:
        del profile[key]
    profile.update(fields)
    _replace(file, document.as_string())
    return server


def remove_server(environment: Environment, name: str) -> Server:
    """Take the profile of a server out of config.toml; returns it.

    Raises:
        ConfigError: the file is wrong already, or cannot be written.
        UsageError: it has no such profile.

    """
    file = config.path(environment)
    there = config.read(file)[2]
    if name not in there:
        raise UsageError(f"There is no server {name}: `chatcli servers` lists them.")
    document = _document(file)
    servers: Any = document["servers"]
    del servers[name]
    _replace(file, document.as_string().rstrip("\n") + "\n")  # tomlkit leaves the empty line before it
    return there[name]


def _document(file: Path) -> TOMLDocument:
    """A config.toml as a person wrote it, with comments and line ends."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        # Bytes: reading as text would turn the \r\n of an editor into \n.
        return tomlkit.parse(file.read_bytes() if file.exists() else b"")
    except (OSError, ParseError) as error:
        raise ConfigError(f"{file} cannot be read: {error}; correct it by hand.") from error


def _put(document: TOMLDocument, key: str, text: str) -> None:
    if key.startswith("alias."):
        name = key[len("alias.") :]
        config.check_alias(name, text)
        document.setdefault("alias", {})[name] = text
    else:
        value = config.parse(key, text)
        document[key] = list(value) if isinstance(value, tuple) else value


def _replace(file: Path, text: str) -> None:
    """Write the file in one step, so that a crash leaves the old or the new one; its mode is kept."""
    target = file.resolve()  # a symbolic link to a person's dotfiles stays one
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".config-")
        try:
            with os.fdopen(handle, "wb") as temporary:
                temporary.write(text.encode())
                temporary.flush()
                os.fsync(temporary.fileno())
            if target.exists():
                Path(name).chmod(target.stat().st_mode & 0o7777)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}); see that its folder is yours.") from error
