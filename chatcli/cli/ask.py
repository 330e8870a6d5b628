"""`chatcli ask`: one answer on standard output, for people and for scripts.

It knows how a question is put together from arguments and standard input; the rest is the session's.
"""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from chatcli.cli import options
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError


def ask(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="The question; `-` reads it from standard input.", metavar="[PROMPT]...")
    ] = None,
    model: options.Model = "",
    system: options.System = None,
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
    resume: options.Continue = False,
    conversation: options.ConversationId = "",
    no_history: options.NoHistory = False,
    plain: options.Plain = None,
    revision: options.Revision = "",
    trust_remote_code: options.TrustRemoteCode = False,
) -> int:
    """Answer once, on standard output.

    Piped input comes first, then a blank line, then the prompt: git diff | chatcli ask "write the commit message"
    """
    from chatcli.cli.opening import as_wished, open_session
    from chatcli.render.answer import show_answer

    environment = real_environment()
    question = compose_question(prompt or [], environment)
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
    environment = as_wished(environment, flags)
    picked = conversation or ("@1" if resume else "")
    session = open_session(environment, flags, resume=picked, revision=revision, trust=trust_remote_code)
    with closing(session.say(question)) as events:
        finished = show_answer(events, environment)
    if finished and finished.reason == "length":
        environment.note("chatcli: the answer is cut off: the limit of tokens is reached.")
    elif finished and not finished.completion_tokens:
        environment.note("chatcli: the model said nothing.")
    if session.notice:
        environment.note(f"chatcli: {session.notice}")
    return 0


def compose_question(prompt: list[str], environment: Environment) -> str:
    """Piped input, a blank line, the prompt; either alone where the other is missing.

    Raises:
        UsageError: there is nothing to ask, or the input is no text.
    """
    spoken = " ".join(prompt).strip()
    if spoken == "-" or not environment.stdin_is_terminal:
        piped = read_text(environment)
        parts = [piped.rstrip("\n")] if piped.strip() else []
        if spoken not in ("", "-"):
            parts.append(spoken)
        question = "\n\n".join(parts)
    else:
        question = spoken
    if not question:
        raise UsageError('There is no question: write it behind the command, as in chatcli ask "...", or pipe it in.')
    return question


def read_text(environment: Environment) -> str:
    """Everything on standard input as text; bytes that are no UTF-8 are replaced, and a note says so.

    Raises:
        UsageError: the input holds NUL bytes, so it is no text.
    """
    if environment.stdin is None:
        return ""
    data = environment.stdin.buffer.read()
    if b"\0" in data:
        raise UsageError("Standard input is binary, not text: convert it to text first.")
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff")
    if "\ufffd" in text and "\ufffd".encode() not in data:
        environment.note("chatcli: standard input is not all UTF-8; what is not was replaced.")
    return text
