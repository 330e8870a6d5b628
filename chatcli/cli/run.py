"""`chatcli run`: a chat in the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from chatcli.cli.options import Talk, talking
from chatcli.environment import real_environment
from chatcli.errors import UsageError


@talking(without=("model",))
def run(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Hub id, alias or folder; default: the configured model.")
    ] = "",
    *,
    talk: Talk,
) -> int:
    """Chat in the terminal; the model loads while you type.

    Without a model, the built-in guide answers questions about chatcli.
    """
    environment = real_environment()
    if not (environment.stdin_is_terminal and environment.stdout_is_terminal):
        raise UsageError('A chat needs a terminal; in a script or a pipe use: chatcli ask "..."')
    from chatcli.cli.opening import open_engine, open_session
    from chatcli.config import load
    from chatcli.repl.loop import chat

    flags = {**talk.flags, "model": model} if model else talk.flags
    config = load(environment, flags)
    environment = replace(environment, plain=bool(config.value("plain")))
    session = open_session(environment, config, talk)
    return chat(
        session,
        environment,
        open_model=lambda name: open_engine(name, config, environment),
        keep_input=config.value("history") is not False,
    )
