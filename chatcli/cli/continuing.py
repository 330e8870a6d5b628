"""`--continue [ID]`: an option whose value may be left out, which Typer's options cannot have.

The command line is rewritten before it is parsed: what names a conversation becomes the value of `--id`. Knows
the form of ids, not which there are, so that a line means the same whatever the history holds.
"""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

_NAMES = ("--continue", "-c")
_REFERENCE = re.compile(r"@\d+|(?=[a-z]*\d)[0-9a-hjkmnp-tv-z]{4,12}|[0-9a-hjkmnp-tv-z]{12}", re.IGNORECASE)


class Continuing(TyperCommand):
    """A command with the options `--continue` and `--id`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, `--continue ID` and `--continue=ID` taken as `--id ID`."""
        return super().parse_args(ctx, with_id(args))


def with_id(arguments: list[str]) -> list[str]:
    """The arguments with `--id ID` in place of `--continue ID`, `--continue=ID`, `-c ID` and `-c=ID`.

    The word behind is a conversation if it is `@` and a number, a whole id, or at least four characters of one
    with a digit among them; any other word is the model or the question that it would be without. Behind
    `=` stands a conversation, whatever it looks like.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rewritten: list[str] = []
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if index < end and argument in _NAMES and index + 1 < end and _REFERENCE.fullmatch(arguments[index + 1]):
            rewritten.append("--id")
        elif index < end and equals and name in _NAMES:
            rewritten += ["--id", value] if value else ["--continue"]
        else:
            rewritten.append(argument)
    return rewritten
