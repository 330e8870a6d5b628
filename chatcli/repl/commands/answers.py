"""Commands that take something out of the last reply: /copy, /think."""

from __future__ import annotations

from dataclasses import replace

from chatcli.errors import UsageError
from chatcli.repl.clipboard import copy
from chatcli.repl.commands.table import command
from chatcli.repl.state import Chat


@command("copy", "[code]", example="/copy code", completes=("code",))
def _copy(chat: Chat, argument: str) -> None:
    """Copy the last reply to the clipboard, or the last block of code in it."""
    if argument not in ("", "code"):
        raise UsageError(f"/copy takes the whole reply and /copy code its last code; {argument} it does not know.")
    reply = chat.session.conversation.unfinished
    text = reply.text if reply else ""
    if argument and text:
        text = last_code(text)
    if not text:
        chat.prose("There is no code in the last reply." if argument and reply else "There is no reply to copy.")
        return
    copy(text, chat.environment)
    lines = text.count("\n") + 1
    chat.prose(f"Copied: {lines} {'line' if lines == 1 else 'lines'}, {len(text)} characters.")


def last_code(text: str) -> str:
    """The last block of code in Markdown, without its fence; one that is not closed counts."""
    from markdown_it import MarkdownIt

    blocks = [token.content for token in MarkdownIt().parse(text) if token.type in ("fence", "code_block")]
    return blocks[-1].removesuffix("\n") if blocks else ""


@command("think", "[on|off|default]", example="/think off", completes=("on", "off", "default"))
def _think(chat: Chat, argument: str) -> None:
    """Show what the model thought before its last reply; on and off switch the thinking of models that can."""
    if argument:
        _switch_thinking(chat, argument.lower())
        return
    reply = chat.session.conversation.unfinished
    if reply and reply.reasoning:
        chat.aside(reply.reasoning)
    else:
        chat.prose("The last reply came without reasoning." if reply else "There is no reply yet.")


def _switch_thinking(chat: Chat, word: str) -> None:
    if word not in ("on", "off", "default"):
        raise UsageError(f"/think takes on, off or default; {word} is none of them.")
    think = None if word == "default" else word == "on"
    chat.session.settings = replace(chat.session.settings, think=think)
    chat.prose("The model thinks as it is used to." if think is None else f"Thinking is {word} from the next reply on.")
