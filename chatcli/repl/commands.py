"""The slash commands: what each does, its help and its other names.

A command is a decorated function; help and completion follow from the table. It knows the session and
a place to print; it knows no key and no prompt_toolkit.
"""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from chatcli import config
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import DEFAULTS, Event
from chatcli.render.answer import dim
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

_CALL = re.compile(r"(/|!!)([A-Za-z?][^\s/]*)(\s.*)?", re.DOTALL)


class Leave(Exception):
    """Raised by the command that ends the chat."""


@dataclass(frozen=True, slots=True)
class Chat:
    """What a command may touch."""

    session: Session
    environment: Environment

    def print(self, text: str = "") -> None:
        """A line for the person; whatever it holds, it cannot act on the terminal."""
        print(sanitize(text), file=self.environment.stdout, flush=True)

    def list(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what belongs to them: beside each other where there is room, else below each other."""
        width = line_width()
        margin = max(len(name) for name, _ in rows) + 2
        beside = width >= margin + 30
        indent = " " * (margin if beside else 2)
        for name, text in rows:
            filled = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
            self.print(name.ljust(margin) + filled[margin:] if beside else f"{name}\n{filled}")

    def prose(self, text: str) -> None:
        """Sentences, broken between words."""
        self.print(wrapped(text))

    def aside(self, text: str) -> None:
        """A line about the chat rather than of it: dim where there is colour."""
        print(dim(sanitize(text), self.environment), file=self.environment.stdout, flush=True)


def line_width() -> int:
    """Columns for our own sentences; the last is left free, for some terminals wrap in it."""
    return max(shutil.get_terminal_size().columns - 1, 12)


def wrapped(text: str) -> str:
    """One sentence or two, broken between words to the terminal's width."""
    return textwrap.fill(text, line_width(), break_long_words=False, break_on_hyphens=False)


Run = Callable[[Chat, str], Generator[Event] | None]


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command; `run` gets the text behind its name and may return a reply to be shown."""

    name: str
    usage: str
    help: str
    run: Run


COMMANDS: dict[str, Command] = {}
KEYS = (
    ("Enter", "Send"),
    ("Alt-Enter, Ctrl-J", "Begin a new line"),
    ("Ctrl-C", "Stop a reply and keep it; at the prompt clear the line, twice leave"),
    ("Up, Ctrl-R", "Bring back earlier input, search it"),
    ("Tab", "Complete a command"),
    ("Ctrl-L", "Clear the screen"),
    ("Ctrl-D", "Leave"),
)
ALIASES = {
    "?": "help",
    "h": "help",
    "bye": "exit",
    "quit": "exit",
    "q": "exit",
    "reset": "clear",
    "new": "clear",
    "regen": "retry",
    "regenerate": "retry",
}


def command(name: str, usage: str = "") -> Callable[[Run], Run]:
    """Add a function to the table; the first line of its docstring is its help."""

    def added(run: Run) -> Run:
        text = (run.__doc__ or "").strip().splitlines()[0].rstrip(".")
        COMMANDS[name] = Command(name, f"/{name} {usage}".rstrip(), text, run)
        return run

    return added


def parse(line: str) -> tuple[Command, str] | None:
    """The command that a line calls and its argument; None for a line that is meant for the model.

    A leading slash that no word follows, as in a path or a comment, is text like any other; so is a line
    that begins with a space.

    Raises:
        UsageError: there is no such command; the nearest is named.
    """
    match = _CALL.fullmatch(line)
    if not match:
        return None
    prefix, name, argument = match[1], match[2].lower(), (match[3] or "").strip()
    found = COMMANDS.get(ALIASES.get(name, name))
    if found:
        return found, argument
    if prefix == "!!":
        return None
    near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1, cutoff=0.5)
    hint = f"did you mean /{near[0]}?" if near else "/help lists them."
    raise UsageError(f"There is no command /{name}; {hint}")


@command("help", "[COMMAND]")
def _help(chat: Chat, argument: str) -> None:
    """List the commands and keys, or explain one command."""
    name = argument.removeprefix("/").lower()
    if name:
        called = parse(f"/{name}")
        if not called:
            raise UsageError(f"There is no command /{name}; /help lists them.")
        chat.print(f"{called[0].usage}\n  {called[0].help}.")
        return
    chat.list([(each.usage, each.help) for each in COMMANDS.values()])
    chat.print()
    chat.list(KEYS)


@command("clear")
def _clear(chat: Chat, argument: str) -> None:
    """Begin a new conversation; the old one stays in the history."""
    chat.session.clear()
    chat.prose("A new conversation; the old one is in the history.")


@command("undo")
def _undo(chat: Chat, argument: str) -> None:
    """Take back the last question and its answer."""
    question = chat.session.undo()
    shown = question if len(question) <= 60 else question[:57] + "..."
    chat.prose(f"Taken back: {' '.join(shown.split())}" if question else "There is nothing to take back.")


@command("retry")
def _retry(chat: Chat, argument: str) -> Generator[Event] | None:
    """Answer the last question again."""
    if chat.session.unanswered or chat.session.conversation.exchanges:
        return chat.session.retry()
    chat.prose("There is no question to answer again.")
    return None


@command("system", "[TEXT|-]")
def _system(chat: Chat, argument: str) -> None:
    """Show the system message, set it, or remove it with a dash."""
    if argument:
        chat.session.set_system("" if argument == "-" else argument)
    system = chat.session.conversation.system
    chat.print(f"System message: {system}" if system else "There is no system message.")


@command("set", "[SETTING VALUE|default]")
def _set(chat: Chat, argument: str) -> None:
    """Show the settings, or change one."""
    if not argument:
        _show_settings(chat)
        return
    key, _, text = argument.partition(" ")
    name = config.FIELDS.get(key, key)
    if name not in {field.name for field in fields(DEFAULTS)}:
        near = difflib.get_close_matches(key, _settings(), n=1)
        raise UsageError(f"There is no setting {key}; " + (f"did you mean {near[0]}?" if near else "/set lists them."))
    if not text.strip():
        raise UsageError(f"/set {key} needs a value, or the word default.")
    value: Any = None if text.strip() == "default" else config.parse(key, text.strip())
    chat.session.settings = replace(chat.session.settings, **{name: value})
    chat.print(f"{key} is now {_shown(value)}.")


@command("stats")
def _stats(chat: Chat, argument: str) -> None:
    """Show how the last reply went: tokens, cache, speed."""
    last = chat.session.last
    if last is None or not last.prompt_tokens:
        chat.prose("There are no numbers yet: they come with the first whole reply.")
        return
    facts = chat.session.engine.facts
    chat.list(
        [
            ("model", ", ".join(part for part in (facts.model, facts.device, facts.precision, facts.adapter) if part)),
            ("prompt", f"{last.prompt_tokens} tokens, {last.cached_tokens} of them from the cache"),
            ("reply", f"{last.completion_tokens} tokens, ended by: {last.reason}"),
            ("speed", f"first token after {last.seconds_to_first:.2f} s, then {last.tokens_per_second:.1f} tokens/s"),
            ("context", f"{last.prompt_tokens + last.completion_tokens} of {facts.context} tokens"),
        ]
    )


@command("exit")
def _exit(chat: Chat, argument: str) -> None:
    """Leave; the conversation is saved."""
    raise Leave


def _settings() -> dict[str, str]:
    """The settings that /set knows, by the names that people use, with their fields."""
    names = {field: key for key, field in config.FIELDS.items()}
    return {names.get(field.name, field.name): field.name for field in fields(DEFAULTS)}


def _show_settings(chat: Chat) -> None:
    rows = []
    for key, name in _settings().items():
        value = getattr(chat.session.settings, name)
        default = getattr(DEFAULTS, name)
        usual = _shown(default) if name not in config.FROM_THE_MODEL else f"the model's own, else {_shown(default)}"
        rows.append((key, _shown(value) if value is not None else usual))
    chat.list(rows)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(repr(each) for each in value) or "none"
    return "default" if value is None else str(value)


NAMES = tuple(COMMANDS)
"""The commands' names, for completion and for the guide's facts."""
