"""`chatcli servers`: the servers that answer in place of a model of this machine, kept in config.toml.

No key is ever shown, and none is taken from the command line. What a server says, `engines.reach` asks.
"""

from __future__ import annotations

import getpass
import json
from typing import Annotated

import typer

from chatcli.environment import real_environment
from chatcli.errors import UsageError
from chatcli.servers.profiles import KEYRING, Server

_HEADER = ("NAME", "URL", "MODEL", "KIND", "KEY FROM")
_LEAST_WANTED = (3, 4, 2)
"""Which columns are left out first where there is no room for all."""
_SHOWN = 40


def servers_list(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False
) -> int:
    """List the servers that have a name; no key is shown, only where it comes from."""
    if context.invoked_subcommand:
        return 0
    from chatcli.config import load
    from chatcli.render.columns import columns, fitted

    environment = real_environment()
    servers = load(environment).servers
    if as_json:
        fields = [name.lower().replace(" ", "_") for name in _HEADER]
        told = [dict(zip(fields, _row(each), strict=True)) for each in servers.values()]
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return 0
    if not servers:
        environment.note("There are no servers yet: chatcli servers add home http://localhost:8000/v1 makes one.")
        return 0
    rows = [_HEADER, *(_row(each) for each in servers.values())]
    terminal = environment.stdout_is_terminal
    for line in fitted(rows, environment.terminal_size().columns, _LEAST_WANTED) if terminal else columns(rows):
        print(line)
    return 0


def servers_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it listens, as in http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Which of its models; default: the only one.")] = "",
    key_from: Annotated[
        str, typer.Option(metavar="VARIABLE|keyring", help="Where its key is; keyring asks for it, unseen.")
    ] = "",
    kind: Annotated[str, typer.Option(help="What it is, such as vllm or ollama; default: it is asked.")] = "",
    thinks: Annotated[
        bool, typer.Option("--thinks", help="Its answers begin with thoughts that only </think> tells from the rest.")
    ] = False,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Let the key travel unencrypted, in a network that you trust.")
    ] = False,
) -> int:
    """Give a server a name, for --server NAME; a name that is there already gets the new address."""
    from chatcli import config_file
    from chatcli.openai.kinds import kind_named
    from chatcli.servers.address import parse_address
    from chatcli.servers.keys import keep_key
    from chatcli.servers.profiles import check_key_source, read_profile

    environment = real_environment()
    check_key_source(key_from)
    if kind:
        kind_named(kind)
    said = {
        "url": parse_address(url).url,
        "model": model,
        "kind": kind,
        "key_from": key_from,
        "plain_http": plain_http,
        "thinks": thinks,
    }
    fields: dict[str, str | bool] = {key: value for key, value in said.items() if value}  # type: ignore[misc]
    if key_from == KEYRING:
        server = read_profile(name, fields)
        if not environment.stdin_is_terminal:
            raise UsageError("The keyring's key is typed at a terminal; elsewhere name a variable with --key-from.")
        key = getpass.getpass(f"Key of {name} (not shown): ").strip()
        if not key:
            raise UsageError("No key was given, so nothing is changed.")
        keep_key(server, key)
    server = config_file.set_server(environment, name, fields)
    environment.note(f"{name} is {server.address.url}: chatcli servers test {name}, chatcli run --server {name}")
    if key_from and key_from != KEYRING and not environment.variables.get(key_from):
        environment.warn(f"chatcli: {key_from} is not set now; the key is looked for there when {name} is asked.")
    return 0


def servers_rm(server: Annotated[str, typer.Argument(metavar="NAME", help="Which.")]) -> int:
    """Forget a server, and its key where that is in the keyring."""
    from chatcli import config_file
    from chatcli.config import load
    from chatcli.servers.keys import forget_key

    environment = real_environment()
    removed = config_file.remove_server(environment, server)
    if removed.key_from == KEYRING:
        forget_key(removed)
    environment.note(f"{server} is forgotten.")
    if load(environment).value("server") == server:
        environment.warn(f"chatcli: {server} is still the usual server: chatcli config unset server ends that.")
    return 0


def servers_test(
    server: Annotated[str, typer.Argument(metavar="NAME|URL", help="Which.")],
    every: Annotated[bool, typer.Option("--all", help="List every model, however many there are.")] = False,
) -> int:
    """Ask a server what it is, which models it has and how long it takes to say so."""
    from chatcli.config import load
    from chatcli.engines.reach import look
    from chatcli.servers.profiles import find_server

    environment = real_environment()
    tested = find_server(server, load(environment).servers)
    found = look(tested, environment.variables)
    print(f"{tested.label} answers after {found.seconds * 1000:.0f} ms and is {found.kind.title}.")
    if found.kind.notes:
        print(found.kind.notes)
    if found.listing is None:
        print("It has no list of models: ask it for one by name.")
        return 0
    if tested.model and tested.model not in found.models:
        print(f"{tested.model}, the profile's model, is not in its list.")
    print("Its models:" if found.models else "It has no models.")
    shown = found.models if every else found.models[:_SHOWN]
    for each in shown:
        size = found.context(each)
        print(f"  {each}" + (f"  ({size} tokens)" if size else ""))
    if len(shown) < len(found.models):
        print(f"  and {len(found.models) - len(shown)} more: --all lists them.")
    return 0


def _row(server: Server) -> tuple[str, ...]:
    from chatcli.openai.kinds import kind_of_host

    service = kind_of_host(server.address.host)
    kind = server.kind or (service.name if service else "")
    key_from = server.key_from or (service.key_variable if service else "")
    return server.name, server.address.url, server.model, kind, key_from
