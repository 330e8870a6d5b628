"""`chatcli history rm`, `prune` and `title`: what changes stored conversations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.history.listing import Reference
from chatcli.cli.history.opening import described, open_store
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from chatcli.history.store import Store

REMOVED_AT_ONCE = 100
"""Conversations that one transaction removes, so that a chat beside it does not wait long."""
SHOWN = 10
_AGE = re.compile(r"(\d{1,6})\s*([hdwy])", re.IGNORECASE)
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def history_rm(
    conversations: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids or beginnings of them; @1 is the latest.")
    ],
    yes: Yes = False,
) -> int:
    """Remove conversations, with all their branches."""
    environment = real_environment()
    store = open_store(environment)
    ids = list(dict.fromkeys(store.find(each) for each in conversations))
    lines = [f"{each}  {store.load(each).title}" for each in ids]
    return _remove(store, ids, lines, yes, environment)


def history_prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Age of the last message: 12h, 90d, 8w, 1y.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    yes: Yes = False,
) -> int:
    """Remove conversations in which nothing was said for a time."""
    environment = real_environment()
    store = open_store(environment)
    old = store.older_than(environment.now() - _age(older_than))
    lines = [described(each, environment) for each in old]
    if dry_run:
        print("".join(f"{line}\n" for line in lines), end="")
        return 0
    return _remove(store, [each.id for each in old], lines, yes, environment)


def history_title(
    conversation: Reference,
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Its new title.")],
) -> int:
    """Give a conversation another title."""
    from chatcli.history.titles import one_line

    title = one_line(" ".join(text))
    if not title:
        raise UsageError("A title needs a character that can be seen.")
    store = open_store(real_environment())
    store.set_title(store.find(conversation), title)
    return 0


def _remove(store: Store, ids: list[str], lines: list[str], yes: bool, environment: Environment) -> int:
    if not ids:
        environment.note("There is nothing to remove.")
        return 0
    if not (yes or _agreed(lines, environment)):
        environment.note("Nothing was removed.")
        return 1
    removed = 0
    for start in range(0, len(ids), REMOVED_AT_ONCE):
        removed += store.delete(ids[start : start + REMOVED_AT_ONCE])
    print(f"Removed: {removed}.")
    return 0


def _agreed(lines: list[str], environment: Environment) -> bool:
    """Whether the person at the terminal says yes.

    Raises:
        UsageError: nobody is there to be asked.
    """
    from chatcli.streaming.sanitize import sanitize

    if not (environment.stdin_is_terminal and environment.stderr_is_terminal):
        raise UsageError("Nobody is there to be asked whether to remove them; add --yes.")
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    for line in (*lines[:SHOWN], *more):
        print(sanitize(line, single_line=True), file=environment.stderr)
    what = "this conversation" if len(lines) == 1 else f"these {len(lines)} conversations"
    print(f"Remove {what} for ever? [y/N] ", end="", file=environment.stderr, flush=True)
    return environment.stdin.readline().strip().lower() in ("y", "yes")


def _age(text: str) -> float:
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise UsageError(f'"{text}" is no age: write a number and h, d, w or y, as in 90d.')
    return int(match[1]) * _SECONDS[match[2].lower()]
