"""Commands for the stored conversations: /history, /resume, /search, /title."""

from __future__ import annotations

import time

from chatcli.errors import UsageError
from chatcli.history.records import Summary
from chatcli.repl.commands.table import command
from chatcli.repl.commands.talk import show_end
from chatcli.repl.state import Chat

RECENT = 15


@command("history", "[ID]", example="/history", completes="talks")
def _history(chat: Chat, argument: str) -> None:
    """List the latest conversations, or go on with one of them."""
    if argument:
        _resume(chat, argument)
        return
    recent = chat.session.store.recent(RECENT)
    if not recent:
        chat.prose("There are no conversations yet: the first question begins one.")
        return
    _list(chat, recent)


@command("resume", "ID", example="/resume @2", completes="talks", aliases=("r",))
def _resume(chat: Chat, argument: str) -> None:
    """Go on with a stored conversation, by its id, the beginning of it, or @2 for the second latest."""
    if not argument:
        raise UsageError("/resume needs a conversation's id; /history lists them.")
    session = chat.session
    session.resume(session.store.find(argument))
    stored = session.stored()
    chat.prose(f"Going on with: {stored.title}")
    about_model(chat, stored.model)
    show_end(chat)


def about_model(chat: Chat, model: str) -> None:
    """Say so where the talk was with another model than the present one."""
    if model and model != chat.session.engine.facts.model:
        chat.prose(f"It was with {model}; /model {model} goes on with that.")


@command("title", "[TEXT]", example="/title Holidays in Rome", aliases=("rename",))
def _title(chat: Chat, argument: str) -> None:
    """Show the conversation's title, or give it another."""
    session = chat.session
    if argument:
        session.set_title(argument)
    title = session.stored().title
    chat.prose(f"Title: {title}" if title else "There is no title yet: the first question gives one.")


@command("search", "WORDS", example="/search rome hotel", aliases=("find",))
def _search(chat: Chat, argument: str) -> None:
    """Find stored conversations by what was said in them; /resume goes on with one."""
    if not argument:
        raise UsageError("/search needs words to look for.")
    hits = chat.session.store.search(argument, RECENT)
    if not hits:
        chat.prose("Nothing was found.")
        return
    chat.list([(each.conversation.id, f"{each.conversation.title}: {each.excerpt}") for each in hits])


def _list(chat: Chat, found: list[Summary]) -> None:
    """Conversations, one a line, the present one marked."""
    rows = []
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.updated_at))
        mark = "*" if each.id == chat.session.id else " "
        rows.append((f"{mark} {each.id}", f"{each.title} ({each.model}, {when}, {each.turns})"))
    chat.list(rows)
