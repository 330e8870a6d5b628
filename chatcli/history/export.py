"""A conversation as text to keep or to give away: Markdown, JSON, JSON Lines, one HTML page.

Knows values only; no database, no file. The shape of the JSON is in `document`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping

from chatcli.history.document import document
from chatcli.history.page import page
from chatcli.history.records import StoredConversation, StoredMessage
from chatcli.streaming.sanitize import sanitize

# What may be left open at the end of a text and would take in what follows, and what closes it.
_CLOSINGS = ("\n```", "\n~~~", "-->", "</pre>", "</script>", "</style>", "</textarea>", "?>", "]]>", ">")


def export(stored: StoredConversation, form: str) -> str:
    """One conversation as `form`, one of `FORMS`; ends with a newline."""
    return FORMS[form]([stored])


def export_all(stored: Iterable[StoredConversation], form: str) -> str:
    """Several in one text: a JSON list, a line each, one page, or one document below the other."""
    every = list(stored)
    if form == "json":
        return json.dumps([document(each) for each in every], ensure_ascii=False, indent=2) + "\n"
    return FORMS[form](every)


def markdown(stored: StoredConversation) -> str:
    """A heading for each speaker, what was said below it as it stands; what is left open in it is closed."""
    parts = [f"# {sanitize(stored.title, single_line=True) or 'Conversation'}", _line_about(stored)]
    if stored.system:
        parts += ["## System", _closed(stored.system)]
    for message in stored.messages:
        parts.append("## You" if message.role == "user" else f"## {_speaker(message, stored)}")
        parts += [
            f"Attached: {sanitize(each.name, single_line=True)} ({each.size} bytes)" for each in message.attachments
        ]
        if message.reasoning:
            parts.append("\n".join(f"> {line}".rstrip() for line in sanitize(message.reasoning).splitlines()))
        parts.append(_closed(message.text))
    return "\n\n".join(part for part in parts if part) + "\n"


def _speaker(message: StoredMessage, stored: StoredConversation) -> str:
    return sanitize(message.model or stored.model, single_line=True) or "Assistant"


def _line_about(stored: StoredConversation) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.created_at))
    return ", ".join(part for part in (when, sanitize(stored.model, single_line=True)) if part)


def _closed(text: str) -> str:
    """`text` with what it leaves open closed, such as the code block of a reply that was cut."""
    from markdown_it import MarkdownIt

    def ends(text: str) -> bool:
        """Whether a heading behind `text` is one."""
        last = parser.parse(f"{text}\n\n# end")[-3:]
        return len(last) == 3 and last[0].type == "heading_open" and last[0].level == 0

    text = sanitize(text).strip("\n")
    parser = MarkdownIt("commonmark")
    if ends(text):
        return text
    fence = parser.parse(text)[-1].markup  # of the code block that is open, if one is
    return next((text + each for each in (f"\n{fence}", *_CLOSINGS) if ends(text + each)), text)


def _each(one: Callable[[StoredConversation], str], between: str = "") -> Callable[[Iterable[StoredConversation]], str]:
    return lambda stored: between.join(one(each) for each in stored)


FORMS: Mapping[str, Callable[[Iterable[StoredConversation]], str]] = {
    "md": _each(markdown, "\n---\n\n"),
    "json": _each(lambda stored: json.dumps(document(stored), ensure_ascii=False, indent=2) + "\n"),
    "jsonl": _each(lambda stored: json.dumps(document(stored), ensure_ascii=False) + "\n"),
    "html": page,
}
"""How each form writes conversations, by its name; the name is also the ending of such files."""
