"""`chatcli run`: a chat in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from chatcli.cli import options
from chatcli.environment import real_environment
from chatcli.errors import UsageError


def run(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Hub id, alias or folder; default: the configured model.")
    ] = "",
    system: options.System = None,
    resume: Annotated[bool, typer.Option("--continue", "-c", help="Pick up the latest conversation.")] = False,
    conversation: Annotated[str, typer.Option("--id", help="Pick up the conversation with this id.")] = "",
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    overflow: options.Overflow = None,
    revision: options.Revision = "",
    trust_remote_code: options.TrustRemoteCode = False,
) -> int:
    """Chat in the terminal; the model loads while you type.

    Without a model, the built-in guide answers questions about chatcli.
    """
    environment = real_environment()
    if not (environment.stdin_is_terminal and environment.stdout_is_terminal):
        raise UsageError('A chat needs a terminal; in a script or a pipe use: chatcli ask "..."')
    flags = options.said(
        model=model,
        system=system,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        max_tokens=max_tokens,
        stop=stop,
        overflow=overflow,
    )
    from chatcli.cli.opening import open_session
    from chatcli.repl.loop import chat

    picked = conversation or ("@1" if resume else "")
    session = open_session(environment, flags, resume=picked, revision=revision, trust=trust_remote_code)
    return chat(session, environment)
