"""The table of slash commands, and how a line becomes a call.

A command is a decorated function; help and completion follow from its row. It knows no session; what the
commands do is in the modules beside this one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from chatcli.errors import UsageError
from chatcli.generation import Event
from chatcli.repl.state import Chat

_CALL = re.compile(r"(/|!!)([A-Za-z?][^\s/]*)(\s.*)?", re.DOTALL)

Completes: TypeAlias = (
    tuple[str, ...] | Literal["", "commands", "models", "settings", "branches", "talks", "files", "images"]
)
"""What a command's argument may be: some words, or a kind of thing; empty where nobody can guess."""


class Leave(Exception):
    """Raised by the command that ends the chat."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A text that goes into the input line, or first into the person's editor, to be changed and sent."""

    text: str
    in_editor: bool = False


Result: TypeAlias = Generator[Event] | Offered | None
Run = Callable[[Chat, str], Result]


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command; `run` gets the text behind its name and may return a reply to be shown."""

    name: str
    usage: str
    help: str
    example: str
    completes: Completes
    run: Run


COMMANDS: dict[str, Command] = {}
ALIASES: dict[str, str] = {}
"""Other names, most of them from other programs."""


def command(
    name: str, usage: str = "", *, example: str = "", completes: Completes = "", aliases: tuple[str, ...] = ()
) -> Callable[[Run], Run]:
    """Add a function to the table; the first line of its docstring is its help."""

    def added(run: Run) -> Run:
        text = (run.__doc__ or "").strip().splitlines()[0].rstrip(".")
        COMMANDS[name] = Command(name, f"/{name} {usage}".rstrip(), text, example or f"/{name}", completes, run)
        ALIASES.update(dict.fromkeys(aliases, name))
        return run

    return added


def parse(line: str) -> tuple[Command, str] | None:
    """The command that a line calls and its argument; None for a line that is meant for the model.

    A leading slash that no word follows, as in a path or a comment, is text like any other; so is a line
    that begins with a space.

    Raises:
        UsageError: there is no such command, and the nearest is named; or it takes no argument and has one.
    """
    match = _CALL.fullmatch(line)
    if not match:
        return None
    prefix, name, argument = match[1], match[2].lower(), (match[3] or "").strip()
    found = COMMANDS.get(ALIASES.get(name, name))
    if found and argument and found.usage == f"/{found.name}":
        raise UsageError(f"/{found.name} takes nothing behind it; send it alone.")
    if found:
        return found, argument
    if prefix == "!!":
        return None
    raise UsageError(f"There is no command /{name}; {nearest(name, [*COMMANDS, *ALIASES], '/')}")


def nearest(name: str, names: list[str], mark: str = "", lists: str = "/help lists them.") -> str:
    """The end of a sentence about a name that does not exist."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {mark}{near[0]}?" if near else lists
