"""`chatcli run`: a chat in the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TextIO

import typer

from chatcli.cli.options import Talk, talking
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError


@talking(without=("model",))
def run(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="Hub id, alias, folder, GGUF file; default: the configured one."),
    ] = "",
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="Say this first, then stay; piped text goes before it.")
    ] = "",
    attach: Annotated[
        list[str] | None,
        typer.Option(
            "--attach", "-a", metavar="FILE", help="Show a picture with the first message; `-` is one piped in."
        ),
    ] = None,
    *,
    talk: Talk,
) -> int:
    """Chat in the terminal; the model loads while you type.

    Without a model, the built-in guide answers questions about chatcli.
    """
    environment = real_environment()
    keys = _keys(environment)
    from chatcli.cli.opening import meant_model, open_engine, open_session
    from chatcli.cli.question import pictures, read_input
    from chatcli.config import load
    from chatcli.repl.loop import chat
    from chatcli.repl.pastes import piped

    flags = {**talk.flags, "model": model} if model else talk.flags
    config = load(environment, flags)
    shown = pictures(attach or (), environment)
    given = "" if environment.stdin_is_terminal or "-" in (attach or ()) else read_input(environment)
    environment = replace(environment, stdin=keys, plain=bool(config.value("plain")))
    session = open_session(environment, config, talk)
    later = replace(config.load_request(), adapter="", loras=(), draft="")  # those were said of the first model
    first = piped(given, prompt.strip())
    return chat(
        session,
        environment,
        open_model=lambda name: open_engine(meant_model(config, name), config, environment, later),
        keep_input=config.value("history") is not False,
        vi=config.value("editing_mode") == "vi",
        first=first if first.text else None,
        attached=shown,
    )


def _names(terminal: TextIO) -> Iterator[str]:
    """What a terminal may be opened by; its own name first, for macOS cannot wait for keys on /dev/tty."""
    if os.name == "nt":
        yield "CONIN$"
        return
    with suppress(OSError):  # in a container it may have no name
        yield os.ttyname(terminal.fileno())
    yield "/dev/tty"


def _keys(environment: Environment) -> TextIO:
    """Where keys come from: standard input, or the terminal itself where that is a pipe.

    Raises:
        UsageError: there is no terminal to chat in.
    """
    if environment.stdin_is_terminal and environment.stdout_is_terminal:
        return environment.stdin
    if environment.stdout_is_terminal:
        for name in _names(environment.stdout):
            with suppress(OSError):
                return Path(name).open(encoding="utf-8")
    raise UsageError('A chat needs a terminal; in a script or a pipe use: chatcli ask "..."')
