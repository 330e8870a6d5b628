"""`chatcli models rm`: take models off the disk, after saying what that frees and asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatcli import guide
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from chatcli.config import Config
    from chatcli.models.removal import Removal

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def models_rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models, as `chatcli models` lists them.")],
    revision: Annotated[str, typer.Option(help="Only this commit, branch or tag; default: all of the model.")] = "",
    yes: Yes = False,
) -> int:
    """Remove models from the Hub's cache and ModelScope's; folders of your own are never touched."""
    from chatcli.cli.models.listing import size
    from chatcli.config import load
    from chatcli.models.places import places
    from chatcli.models.removal import removals
    from chatcli.streaming.sanitize import sanitize

    environment = real_environment()
    config = load(environment)
    here = places(environment.variables, config.model_folders)
    found: list[Removal] = []
    for name in dict.fromkeys(names):
        _require_removable(name, config)
        found += removals(here, name, revision)
    for each in found:
        print(sanitize(f"{size(each.bytes):>9}  {each.folder}", single_line=True), file=environment.stderr)
    total = size(sum(each.bytes for each in found))
    if not (yes or _agreed(f"Remove this and free {total}? [y/N] ", environment)):
        environment.note("Nothing was removed.")
        return 1
    for each in found:
        each.carry_out()
    print(f"Removed: {total}.")
    return 0


def _require_removable(name: str, config: Config) -> None:
    if name == guide.NAME:
        raise UsageError("The guide is part of chatcli and stays.")
    if name in config.aliases:
        raise UsageError(
            f"{name} is an alias: chatcli models rm {config.aliases[name]} removes the model, "
            f"chatcli models alias --remove {name} the alias."
        )
    repository, colon, _ = name.partition(":")
    if colon:
        raise UsageError(f"One file of a repository cannot be removed: chatcli models rm {repository} removes all.")


def _agreed(question: str, environment: Environment) -> bool:
    """What a person answers; a script must say --yes.

    Raises:
        UsageError: nobody can be asked.
    """
    if not (environment.stdin_is_terminal and environment.stderr_is_terminal):
        raise UsageError("Nobody can be asked whether to remove this: add --yes.")
    print(question, end="", file=environment.stderr, flush=True)
    return environment.stdin.readline().strip().lower() in ("y", "yes")
