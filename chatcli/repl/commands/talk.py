"""Commands that change where the talk goes on: /clear, /undo, /edit, /retry, /continue, /branch."""

from __future__ import annotations

import time
from collections.abc import Generator

from chatcli.errors import UsageError
from chatcli.generation import Event
from chatcli.history.titles import TITLE_COLUMNS, one_line, shortened
from chatcli.repl.attach import attach_again
from chatcli.repl.commands.table import Offered, command
from chatcli.repl.commands.values import several
from chatcli.repl.state import Chat


@command("clear", aliases=("reset", "new"))
def _clear(chat: Chat, argument: str) -> None:
    """Begin a new conversation; the old one stays in the history."""
    chat.session.clear()
    chat.prose("A new conversation; the old one is in the history.")


@command("undo", aliases=("remove",))
def _undo(chat: Chat, argument: str) -> None:
    """Take back the last question and its answer."""
    question = chat.session.undo()
    chat.attached.clear()
    chat.prose(
        f"Taken back: {shortened(one_line(question), TITLE_COLUMNS)}" if question else "There is nothing to take back."
    )


@command("edit")
def _edit(chat: Chat, argument: str) -> Offered:
    """Take back the last question into $EDITOR, to change it and ask again; without one, write a question there."""
    attach_again(chat, chat.session.question)
    return Offered(chat.session.undo(), in_editor=True)


@command(
    "retry",
    "[SETTING=VALUE ...]",
    example="/retry temperature=1.2 seed=5",
    completes="settings",
    aliases=("regen", "regenerate"),
)
def _retry(chat: Chat, argument: str) -> Generator[Event] | None:
    """Answer the last question again, with other settings this once; /branch goes back to the earlier answer."""
    settings = several(argument)
    if chat.session.unanswered or chat.session.conversation.exchanges:
        return chat.session.retry(settings)
    chat.prose("There is no question to answer again.")
    return None


@command("continue")
def _continue(chat: Chat, argument: str) -> Generator[Event]:
    """Go on with a reply that was stopped or cut off, in the same message."""
    return chat.session.continue_()


@command("branch", "[NUMBER]", example="/branch 2", completes="branches", aliases=("branches",))
def _branch(chat: Chat, argument: str) -> None:
    """List the answers and questions that were retried, edited or taken back, or go to one."""
    branches = chat.session.branches()
    if argument:
        if not argument.isdecimal() or not 1 <= int(argument) <= len(branches):
            raise UsageError(f"There is no branch {argument}; " + _how_many(len(branches)))
        chat.session.switch_branch(branches[int(argument) - 1])
        chat.prose(f"The talk goes on from branch {argument}.")
        show_end(chat)
    elif not branches:
        chat.prose("There are no branches yet: /retry and /edit make them.")
    else:
        rows = []
        for number, each in enumerate(branches, 1):
            when = time.strftime("%H:%M", time.localtime(each.created_at))
            asked = "1 question" if each.turns == 1 else f"{each.turns} questions"
            facts = ", ".join(part for part in (each.model or "no answer", when, asked) if part)
            rows.append((f"{'*' if each.current else ' '} {number}", f"{each.words} ({facts})"))
        chat.list(rows)


def _how_many(count: int) -> str:
    return f"there are 1 to {count}." if count else "there are none yet."


def show_end(chat: Chat) -> None:
    """The last exchange, so that a person sees where they are."""
    spoken = chat.session.conversation.spoken
    asked = chat.session.unanswered or next((m.text for m in reversed(spoken) if m.role == "user"), "")
    if asked:
        chat.aside(f"> {shortened(one_line(asked), TITLE_COLUMNS)}")
    if not chat.session.unanswered and spoken and spoken[-1].role == "assistant":
        chat.print(spoken[-1].text)
