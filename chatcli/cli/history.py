"""`chatcli history`: what was said before."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from chatcli.environment import Environment, real_environment
from chatcli.history.store import Store
from chatcli.streaming.sanitize import sanitize


def history_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many conversations to list.")] = 20,
) -> int:
    """List stored conversations, newest first."""
    if context.invoked_subcommand:
        return 0
    environment = real_environment()
    conversations = _store(environment).recent(limit)
    if not conversations:
        environment.note("No conversations yet: `chatcli run` begins one.")
    for each in conversations:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.updated_at))
        print(f"{each.id}  {when}  {each.turns:>3}  {sanitize(each.model, single_line=True)}  {each.title}")
    return 0


def history_show(
    conversation: Annotated[str, typer.Argument(metavar="ID", help="Its id, or a beginning of it; @1 is the latest.")],
) -> int:
    """Print a whole conversation."""
    store = _store(real_environment())
    stored = store.load(store.find(conversation))
    if stored.system:
        print(f"system: {sanitize(stored.system)}\n")
    for message in stored.messages:
        speaker = "you" if message.role == "user" else sanitize(stored.model, single_line=True)
        ending = "  [stopped]" if message.finish_reason == "cancelled" else ""
        print(f"{speaker}: {sanitize(message.text)}{ending}\n")
    return 0


def _store(environment: Environment) -> Store:
    store = Store.open(environment.data_folder / "history.db")
    if store.notice:
        environment.note(f"chatcli: {store.notice}")
    return store
