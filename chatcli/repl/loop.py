"""The chat: read a message, do what it says, show the reply, again.

It knows the order of things; keys are `input`'s, commands are `commands`', replies are `render`'s.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli import __version__
from chatcli.engines.deferred import DeferredEngine
from chatcli.environment import Environment
from chatcli.errors import INTERRUPTED, ChatcliError, UsageError
from chatcli.generation import Event, Progress
from chatcli.render.answer import show_answer
from chatcli.render.progress import described
from chatcli.repl.commands import NAMES, Chat, Leave, parse, wrapped
from chatcli.repl.input import Prompt
from chatcli.repl.interrupt import (
    interruptible,
    keys_held_back,
    keys_waiting,
    leaving_on_hangup,
    no_interrupt_between_replies,
    until,
)
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

UNFOLD_HINT = "/think shows it"


def chat(
    session: Session,
    environment: Environment,
    *,
    input: Input | None = None,  # noqa: A002  prompt_toolkit's own name
    output: Output | None = None,
) -> int:
    """Talk until the person leaves; returns the exit code."""
    state = Chat(session, environment)
    prompt = Prompt(
        environment, NAMES, lambda: _toolbar(session), lambda: _loading(session), input=input, output=output
    )
    _greet(state)
    offered = session.unanswered
    with keys_held_back(sys.stdin), no_interrupt_between_replies(), leaving_on_hangup():
        while True:
            try:
                offered = _obey(state, prompt.read("" if keys_waiting(sys.stdin) else offered))
            except (EOFError, Leave):
                return 0
            except KeyboardInterrupt:
                return INTERRUPTED
            except ChatcliError as error:
                _complain(environment, str(error), error)
                if _failed_to_load(session, error):
                    return error.exit_code
                offered = session.unanswered
            except Exception as error:  # a defect of ours must not end a talk
                _complain(environment, f"unexpected {type(error).__name__}: {error}; --debug shows more.", error)
                if _failed_to_load(session, error):
                    return ChatcliError.exit_code
                offered = session.unanswered


def _obey(state: Chat, line: str) -> str:
    """Run a command, or say the line to the model; returns the question if not a word of an answer came."""
    if not line.strip():
        return ""
    try:
        called = parse(line)
        reply = called[0].run(state, called[1]) if called else state.session.say(line.strip("\n").rstrip())
    except UsageError as error:
        _complain(state.environment, str(error), error)
        return ""
    if not reply:
        state.print()
        return ""
    _show(state, reply)
    return state.session.unanswered


def _show(state: Chat, reply: Generator[Event]) -> None:
    with keys_held_back(sys.stdin), interruptible() as interrupt:
        finished = show_answer(until(reply, interrupt), state.environment, unfold_hint=UNFOLD_HINT)
    if finished is None:
        state.aside("[stopped]")
    elif finished.reason == "length":
        state.aside("[cut off: the limit of tokens is reached]")
    elif not finished.completion_tokens:
        state.aside("[the model said nothing]")
    state.print()


def _greet(state: Chat) -> None:
    facts = state.session.engine.facts
    state.prose(f"chatcli {__version__}, {_short(facts.model)}. /help lists the commands, Ctrl-D leaves.")
    asked = state.session.conversation.exchanges
    if asked:
        state.prose(f"Going on with a talk of {asked} {'question' if asked == 1 else 'questions'}.")
    state.print()


def _loading(session: Session) -> bool:
    """Whether the model is still on its way; raises what went wrong."""
    engine = session.engine
    if not isinstance(engine, DeferredEngine):
        return False
    if engine.error:
        raise engine.error
    return engine.progress is not None


def _failed_to_load(session: Session, error: Exception) -> bool:
    return isinstance(session.engine, DeferredEngine) and session.engine.error is error


def _toolbar(session: Session) -> str:
    """Model, context and speed; while the model is on its way, how far it is."""
    engine = session.engine
    progress: Progress | None = engine.progress if isinstance(engine, DeferredEngine) else None
    if progress:
        return sanitize(f" {described(progress)}  {_short(engine.facts.model)}", single_line=True)
    facts, last = engine.facts, session.last
    parts = [_short(facts.model), f"{facts.device} {facts.precision}".strip()]
    if last and last.prompt_tokens:
        used = last.prompt_tokens + last.completion_tokens
        parts += [f"{used} of {facts.context} tokens", f"{last.tokens_per_second:.0f} tokens/s"]
    return sanitize(" " + "  ".join(part for part in parts if part), single_line=True)


def _short(model: str) -> str:
    """A model's name as people say it: of a folder, the last part of its path."""
    return Path(model).name if Path(model).is_absolute() else model


def _complain(environment: Environment, sentence: str, error: BaseException) -> None:
    if os.environ.get("CHATCLI_DEBUG"):
        traceback.print_exception(error)
    print(wrapped(f"chatcli: {sanitize(sentence, single_line=True)}") + "\n", file=environment.stderr, flush=True)
