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
    resume: options.Continue = False,
    conversation: options.ConversationId = "",
    no_history: options.NoHistory = False,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    overflow: options.Overflow = None,
    think: options.Think = None,
    reasoning_effort: options.Effort = None,
    plain: options.Plain = None,
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
        think=think,
        reasoning_effort=reasoning_effort,
        history=False if no_history else None,
        plain=plain,
    )
    from chatcli.cli.opening import as_wished, keeps_history, open_engine, open_session
    from chatcli.config import load
    from chatcli.repl.loop import chat

    environment = as_wished(environment, flags)
    picked = conversation or ("@1" if resume else "")
    session = open_session(environment, flags, resume=picked, revision=revision, trust=trust_remote_code)
    return chat(
        session,
        environment,
        open_model=lambda name: open_engine(name, load(environment, flags), environment),
        keep_input=keeps_history(environment, flags),
    )
