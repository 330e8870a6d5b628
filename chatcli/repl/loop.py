"""The chat: read a message, do what it says, show the reply, again.

It knows the order of things; keys are `input`'s, commands are `commands`', replies are `render`'s.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from chatcli import __version__
from chatcli.conversation import Attachment
from chatcli.engines.deferred import DeferredEngine
from chatcli.environment import Environment
from chatcli.errors import INTERRUPTED, ChatcliError, UsageError
from chatcli.generation import Event
from chatcli.leaving import leaving_on_hangup
from chatcli.render.answer import show_answer
from chatcli.repl.ahead import TypedAhead, pastes_marked
from chatcli.repl.attach import attach_again, described, files_with, require_short
from chatcli.repl.commands import Leave, Offered, parse
from chatcli.repl.commands.complete import candidates
from chatcli.repl.commands.table import Result
from chatcli.repl.input import Prompt
from chatcli.repl.interrupt import (
    interruptible,
    keys_held_back,
    no_interrupt_between_replies,
    until,
)
from chatcli.repl.pastes import Typed
from chatcli.repl.reading import ReadAhead
from chatcli.repl.state import Chat, OpenModel, wrapped
from chatcli.repl.toolbar import Toolbar, short_name
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

UNFOLD_HINT = "/think shows it"
NOTHING = Offered("")


def chat(
    session: Session,
    environment: Environment,
    *,
    open_model: OpenModel | None = None,
    keep_input: bool = True,
    vi: bool = False,
    first: Typed | None = None,
    attached: Sequence[Attachment] = (),
    input: Input | None = None,  # noqa: A002  prompt_toolkit's own name
    output: Output | None = None,
) -> int:
    """Talk until the person leaves; returns the exit code.

    `open_model` is what /model calls. What is typed is remembered, in a file if `keep_input`. `first` is said at once.
    The files `attached` go with the first message.
    """
    state = Chat(session, environment, open_model, list(attached))
    reading = ReadAhead(state)
    prompt = Prompt(
        environment,
        partial(candidates, state),
        Toolbar(session, environment),
        lambda: _loading(session),
        partial(_complain, environment),
        reading.typed,
        keep=keep_input,
        vi=vi,
        input=input,
        output=output,
    )
    ahead = TypedAhead(environment.stdin)
    _greet(state)
    offered = _again(state)
    with keys_held_back(environment.stdin), no_interrupt_between_replies(), leaving_on_hangup():
        while True:
            try:
                if first:
                    typed, first = first, None
                    state.print(f"> {typed.shown}")
                else:
                    typed = _read(prompt, offered, ahead.take())
                    reading.stop()
                offered = _obey(state, typed, ahead)
            except (EOFError, Leave):
                return 0
            except KeyboardInterrupt:
                return INTERRUPTED
            except Exception as error:  # a defect of ours must not end a talk either
                _complain(environment, error)
                if _failed_to_load(session, error) and not _back_to_the_model_before(state):
                    return error.exit_code if isinstance(error, ChatcliError) else ChatcliError.exit_code
                offered = _again(state)


def _read(prompt: Prompt, offered: Offered, ahead: str) -> Typed:
    """The next message; what was typed ahead is the beginning of it, rather than what is offered."""
    return prompt.read(ahead=ahead) if ahead else prompt.read(offered.text, in_editor=offered.in_editor)


def _obey(state: Chat, typed: Typed, ahead: TypedAhead) -> Offered:
    """Run a command, or say what was typed to the model; returns what the next line begins with.

    That is what a command offers to be edited, or the question if not a word of an answer came.
    """
    if not typed.text.strip():
        return NOTHING
    try:
        called = None if typed.literal else parse(typed.text)
        result = called[0].run(state, called[1]) if called else _said(state, typed)
    except UsageError as error:
        _complain(state.environment, error)
        return NOTHING
    if isinstance(result, Generator):
        _show(state, result, ahead)
        return _again(state)
    state.print()
    return result or NOTHING


def _said(state: Chat, typed: Typed) -> Result:
    """The reply, or the text to be changed where it or a file with it is too long."""
    try:
        require_short(typed.text, state.session.engine)
        files = files_with(state, typed.own)
    except UsageError as error:
        _complain(state.environment, error)
        return Offered(typed.text)
    for each in files:
        state.aside(described(each, state.session.engine))
    state.attached.clear()
    return state.session.say(typed.text.strip("\n").rstrip(), files)


def _again(state: Chat) -> Offered:
    """The question that got no answer, with its files attached again."""
    if not state.session.unanswered:
        return NOTHING
    attach_again(state, state.session.question)
    return Offered(state.session.unanswered)


def _show(state: Chat, reply: Generator[Event], ahead: TypedAhead) -> None:
    environment = state.environment
    with keys_held_back(environment.stdin), pastes_marked(environment), interruptible() as interrupt:
        events = until(reply, interrupt, ahead.escaped)
        finished = show_answer(events, environment, unfold_hint=UNFOLD_HINT)
    if finished is None:
        state.aside("[stopped]")
    elif finished.reason == "length":
        state.aside("[cut off: the limit of tokens is reached]")
    elif not finished.completion_tokens:
        state.aside("[the model said nothing]")
    state.print()


def _greet(state: Chat) -> None:
    facts = state.session.engine.facts
    state.prose(f"chatcli {__version__}, {short_name(facts.model)}. /help lists the commands, Ctrl-D leaves.")
    asked = state.session.conversation.exchanges
    if asked:
        state.prose(f"Going on with a talk of {asked} {'question' if asked == 1 else 'questions'}.")
    state.print()


def _loading(session: Session) -> bool:
    """Whether the model is still on its way; raises what went wrong."""
    engine = session.engine
    if isinstance(engine, DeferredEngine):
        if engine.error:
            raise engine.error
        if engine.progress:
            return True
    session.settle()
    return False


def _failed_to_load(session: Session, error: Exception) -> bool:
    return isinstance(session.engine, DeferredEngine) and session.engine.error is error


def _back_to_the_model_before(state: Chat) -> bool:
    if not state.session.switch_back():
        return False
    state.prose(f"{short_name(state.session.engine.facts.model)} stays.")
    state.print()
    return True


def _complain(environment: Environment, error: Exception) -> None:
    """Say in one sentence on standard error what went wrong."""
    if os.environ.get("CHATCLI_DEBUG"):
        traceback.print_exception(error)
    known = isinstance(error, ChatcliError)
    sentence = str(error) if known else f"unexpected {type(error).__name__}: {error}; --debug shows more."
    print(wrapped(f"chatcli: {sanitize(sentence, single_line=True)}") + "\n", file=environment.stderr, flush=True)
