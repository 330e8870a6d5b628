"""`chatcli serve`: models for other programs, over HTTP as OpenAI's clients speak it.

What is wrong with the command line, the key or the address is said before a model is loaded.
"""

from __future__ import annotations

import stat
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.options import Talk, talking
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from chatcli.cli.replicas import Wanted
    from chatcli.config import Config
    from chatcli.server.api.guard import Guard
    from chatcli.server.api.served import Served

OF_A_TALK: frozenset[str] = frozenset(
    ("model", "system", "resume", "conversation", "no_history", "plain", "overflow", "stop", "keep_alive")
)
OF_A_TALK |= {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_tokens", "think"}
OF_A_TALK |= {"reasoning_effort", "server"}
"""Shared options that a server does not take: each request says these for itself, and models stay as long as it."""
_OF_ONE_MODEL = ("revision", "subfolder", "lora", "draft")
_KEY = "CHATCLI_API_KEY"


@talking(without=OF_A_TALK)
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Hub ids, aliases, folders, GGUF files; default: the configured one."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    socket_path: Annotated[
        str, typer.Option("--socket", metavar="PATH", help="Listen at a Unix socket instead, which only you can open.")
    ] = "",
    key_file: Annotated[
        str, typer.Option("--api-key-file", metavar="FILE", help=f"Keys that clients need, one a line; or ${_KEY}.")
    ] = "",
    api_key: Annotated[
        str, typer.Option("--api-key", metavar="KEY", help="The same on the command line, which other users can see.")
    ] = "",
    parallel: Annotated[
        int, typer.Option(min=1, max=1024, help="Answers given at once; a model computes 32 together.")
    ] = 16,
    queue: Annotated[int, typer.Option(min=0, max=100_000, help="Requests that may wait; more get a 429.")] = 64,
    replicas: Annotated[
        str, typer.Option(metavar="N", help="Copies of the model in processes of their own; 1-8: as many as are asked.")
    ] = "",
    ray_address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Ray cluster to put them on; default: one on this machine.")
    ] = "",
    engine: Annotated[str, typer.Option(metavar="local|vllm", help="What runs the model; vllm wants GPUs.")] = "local",
    time_limit: Annotated[str, typer.Option(metavar="TIME", help="Longest time that an answer may take.")] = "10m",
    *,
    talk: Talk,
) -> int:
    """Serve models over HTTP, as OpenAI's API.

    Without a model it is the configured one, or the built-in guide.
    """
    _require_packages()
    from chatcli import guide
    from chatcli.cli.replicas import wanted
    from chatcli.config import load
    from chatcli.leaving import leaving_on_hangup
    from chatcli.server.api.app import build_app
    from chatcli.server.api.listening import serve as listen
    from chatcli.server.api.service import Limits
    from chatcli.server.page import page_routes

    environment = real_environment()
    config = load(environment, talk.flags)
    names = _names(models or [str(config.value("model") or guide.NAME)], config)
    copies = wanted(len(names), replicas, ray_address, engine)
    if len(names) > 1 and (said := [each for each in _OF_ONE_MODEL if talk.flags.get(each) or getattr(talk, each, "")]):
        raise UsageError(f"--{said[0]} is of one model: serve one at a time.")
    keys = _keys(environment, key_file, api_key)
    places = parallel * (copies.most if copies else 1)
    limits = Limits(places=places, queue=queue, seconds=_seconds(time_limit))
    with leaving_on_hangup(), ExitStack() as stack:  # so that no socket and no replica stays behind
        bound, where = _bound(host, port, socket_path, keys, stack)
        if copies:
            served = _replicated(names, copies, parallel, config, environment, talk, stack)
        else:
            served = _loaded(names, config, environment, talk, stack)
            _tell_of_waiting(parallel, environment)
        app = build_app(served, _guard(keys, host, socket_path), limits, more_routes=page_routes())

        def started() -> None:
            print(f"Serving {', '.join(names)} at {where}; Ctrl-C ends it.", flush=True)
            if not socket_path:
                print(f"A page to chat is at {where.removesuffix('v1')}", flush=True)

        def draining() -> None:
            if running := app.state.service.admission.running:
                environment.warn(f"chatcli: answers under way ({running}) are finished first; Ctrl-C again ends now.")

        listen(app, bound, started, draining)
    return 0


def _require_packages() -> None:
    if not all(map(find_spec, ("starlette", "uvicorn", "prometheus_client"))):
        raise UsageError('Serving needs packages that are not installed: pip install "chatcli[serve]".')


def _tell_of_waiting(parallel: int, environment: Environment) -> None:
    """Say where more answers are let in than a model computes at once."""
    from chatcli.runtime.schedule import ROWS

    if parallel > ROWS:
        environment.warn(
            f"chatcli: of one model {ROWS} answers are computed together; the others of --parallel {parallel} wait."
        )


def _seconds(time_limit: str) -> float:
    """How long an answer may take.

    Raises:
        UsageError: it is no length of time, or none in which an answer could come.
    """
    from chatcli.load_request import parse_duration

    try:
        seconds = parse_duration(time_limit)
    except UsageError:
        seconds = 0
    if not seconds:
        raise UsageError(f"--time-limit {time_limit} is no time to answer in: write 90s, 5m, 1h or forever.")
    return seconds


def _names(models: list[str], config: Config) -> dict[str, str]:
    """What a person calls the models, by the names under which clients are told of them: of a folder not the path.

    Raises:
        UsageError: two would have one name, or one is a server's.
    """
    from chatcli.cli.opening import is_path
    from chatcli.servers.profiles import model_and_server

    names: dict[str, str] = {}
    for model in dict.fromkeys(models):
        if (found := model_and_server(config.unaliased(model))) and not is_path(model):
            raise UsageError(
                f"{model} is a model of the server {found[1]}, which serves it already: serve one of this machine."
            )
        name = Path(model).expanduser().resolve().name if is_path(model) else model
        if name in names:
            raise UsageError(f"{names[name]} and {model} would both be served as {name}: rename one of them.")
        names[name] = model
    return names


def _keys(environment: Environment, file: str, key: str) -> tuple[str, ...]:
    """The keys of which a client needs one; none where none is wanted.

    Raises:
        UsageError: a file or a variable was named and holds no key.
    """
    if key:
        environment.warn(f"chatcli: other users of this machine can see --api-key; --api-key-file and ${_KEY} hide it.")
    if file:
        path = Path(file).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                environment.warn(f"chatcli: other users of this machine may read {file}: chmod 600 hides it.")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"The file of keys {file} cannot be read ({reason}).") from error
    else:
        lines = [key or environment.variables.get(_KEY, "")]
    keys = tuple(filter(None, map(str.strip, lines)))
    if file and not keys:
        raise UsageError(f"The file of keys {file} holds none: write one on a line.")
    if any(not each.isascii() or not each.isprintable() or " " in each for each in keys):
        raise UsageError(
            "A key may hold letters, digits and signs of ASCII only, and no blank: no client could send it."
        )
    return keys


def _bound(host: str, port: int, path: str, keys: tuple[str, ...], stack: ExitStack) -> tuple[socket.socket, str]:
    """The socket to listen at and its address in words; taken away at the end.

    Raises:
        UsageError: it cannot be had, or others could ask without a key.
    """
    from chatcli.server.api import listening

    if path:
        place = Path(path).expanduser().absolute()
        bound = stack.enter_context(listening.bind_unix(place))
        stack.callback(listening.remove, place)
        return bound, f"the socket {path}"
    bound = stack.enter_context(listening.bind_tcp(host, port))
    if not keys and not listening.is_loopback(bound):
        raise UsageError(f"At {host} other machines could ask: give a key with --api-key-file FILE or ${_KEY}.")
    return bound, f"{listening.url(bound)}/v1"


def _guard(keys: tuple[str, ...], host: str, path: str) -> Guard:
    from chatcli.server.api.guard import LOOPBACK, Guard

    return Guard(keys, None if keys or path else LOOPBACK | {host.lower()})


def _loaded(
    names: Mapping[str, str], config: Config, environment: Environment, talk: Talk, stack: ExitStack
) -> Mapping[str, Served]:
    """The models in memory, by the names that clients have for them; freed at the end."""
    from chatcli.cli.consent import agree_on_code
    from chatcli.cli.opening import named_parts, open_served
    from chatcli.render.progress import ProgressLine

    served: dict[str, Served] = {}
    for name, model in names.items():
        if talk.trust:
            agree_on_code(named_parts(model, config)[0], config, environment, talk.revision)
        progress = ProgressLine(environment)
        request = config.load_request(revision=talk.revision, subfolder=talk.subfolder)
        try:
            served[name] = open_served(model, config, environment, progress.show, request)
        finally:
            progress.clear()
        stack.callback(served[name].close)
    return served


def _replicated(
    names: Mapping[str, str],
    copies: Wanted,
    places: int,
    config: Config,
    environment: Environment,
    talk: Talk,
    stack: ExitStack,
) -> Mapping[str, Served]:
    """The models in replicas, by the names that clients have for them; ended at the end."""
    from chatcli.cli.replicas import open_fleet, update_on_signal
    from chatcli.render.progress import ProgressLine

    progress = ProgressLine(environment)
    try:
        fleet = open_fleet(names, copies, places, config, environment, talk, progress.show)
    finally:
        progress.clear()
    stack.callback(fleet.close)
    update_on_signal(fleet, environment)
    return fleet.models
