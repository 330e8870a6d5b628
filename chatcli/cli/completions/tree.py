"""The command tree as plain values: what a completion script has to know.

Reads Typer's commands; knows no shell. What a value may be follows from the parameter's name, or from a
metavar that lists the choices, as in `md|json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chatcli.config import KINDS
from chatcli.openai.kinds import kinds

LISTS = {
    "model": "models",
    "models": "models",
    "draft": "models",
    "target": "models",
    "names": "models",
    "resume": "conversations",
    "conversation": "conversations",
    "conversations": "conversations",
    "template": "templates",
    "adapter": "adapters",
    "server": "servers",
}
"""Parameters whose values stand in a list of that name."""
_CHOICES = {"key": lambda: KINDS, "kind": kinds}
"""Parameters whose values are the rows of a table of ours."""
_FILES = frozenset({"file", "files", "folder", "output", "path", "schema", "attach", "attachments"})
_FILES |= {"key_file", "socket_path"}


@dataclass(frozen=True, slots=True)
class Value:
    """What a value may be: one of `choices`, an entry of the list `list`, a file; or anything."""

    choices: tuple[str, ...] = ()
    list: str = ""
    files: bool = False

    @property
    def word(self) -> str:
        """As a script's tables write it: the choices, "list NAME", "files", or nothing."""
        if self.choices:
            return " ".join(self.choices)
        return f"list {self.list}" if self.list else "files" * self.files


@dataclass(frozen=True, slots=True)
class Option:
    """One flag under all its `names`; `value` is None where it takes none."""

    names: tuple[str, ...]
    help: str
    value: Value | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command by its whole path, such as "chatcli history show"; `argument` is what may stand behind it."""

    path: str
    help: str
    options: tuple[Option, ...]
    argument: Value
    children: tuple[Command, ...] = ()

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition(" ")[2]

    def walk(self) -> list[Command]:
        """The command and all below it."""
        return [self, *(each for child in self.children for each in child.walk())]


def tree(command: Any, path: str = "chatcli") -> Command:
    """The values of Typer's `command` and everything below it."""
    children = [tree(child, f"{path} {name}") for name, child in getattr(command, "commands", {}).items()]
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    options = [_option(each) for each in shown if each.param_type_name == "option"]
    arguments = [_value(each) for each in shown if each.param_type_name == "argument"]
    return Command(
        path,
        _sentence(command.help),
        (*options, Option(("-h", "--help"), "Show this message and exit", None)),
        arguments[0] if arguments else Value(),
        tuple(children),
    )


def _option(parameter: Any) -> Option:
    names = tuple(sorted((*parameter.opts, *parameter.secondary_opts), key=len))
    return Option(names, _sentence(parameter.help), None if parameter.is_flag else _value(parameter))


def _value(parameter: Any) -> Value:
    choices = (parameter.metavar or "").strip("[].").split("|")
    if len(choices) > 1 and parameter.metavar.islower():
        return Value(choices=tuple(choices))
    if parameter.name in KINDS and KINDS[parameter.name].choices:
        return Value(choices=KINDS[parameter.name].choices)
    if parameter.name in _CHOICES:
        return Value(choices=tuple(_CHOICES[parameter.name]()))
    return Value(list=LISTS.get(parameter.name, ""), files=parameter.name in _FILES)


def _sentence(text: str | None) -> str:
    """The first sentence of a help, in one line, without its full stop."""
    line = " ".join((text or "").partition("\n\n")[0].split())
    return line.partition(". ")[0].rstrip(".")
