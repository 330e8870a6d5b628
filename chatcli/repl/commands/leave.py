"""The command that ends the chat."""

from __future__ import annotations

from chatcli.repl.commands.table import Leave, command
from chatcli.repl.state import Chat


@command("exit", aliases=("bye", "quit", "q"))
def _exit(chat: Chat, argument: str) -> None:
    """Leave; the conversation is saved."""
    raise Leave
