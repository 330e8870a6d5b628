"""The slash commands: a module for each field they work in, a table that knows them all.

The modules are imported in the order in which /help lists their commands.
"""

# isort: off
from chatcli.repl.commands import talk, answers, settings, files, stored, about, leave  # noqa: F401
from chatcli.repl.commands.table import ALIASES, COMMANDS, Command, Leave, Offered, parse

# isort: on

NAMES = tuple(COMMANDS)
"""The commands' names, for completion and for the guide's facts."""

__all__ = ["ALIASES", "COMMANDS", "NAMES", "Command", "Leave", "Offered", "parse"]
