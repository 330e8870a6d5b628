"""Conversations as one HTML page: nothing in it runs, nothing is fetched, everything said is escaped.

The page follows the reader's light or dark. Knows values and HTML; no file, no database.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterable
from html import escape

from chatcli.conversation import Attachment
from chatcli.history.records import StoredConversation, StoredMessage
from chatcli.images import MEDIA
from chatcli.streaming.sanitize import sanitize

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; }
h1 { font-size: 1.4rem; margin-bottom: .3rem; overflow-wrap: anywhere; }
.about, .who { opacity: .65; font-size: .85rem; }
article { margin: 1.2rem 0; overflow-wrap: anywhere; }
article.user, article.system { background: var(--soft); border-radius: .6rem; padding: .6rem .9rem; }
.plain { white-space: pre-wrap; }
pre { background: var(--soft); border-radius: .4rem; overflow-x: auto; padding: .7rem; }
code { font: .9em/1.45 ui-monospace, monospace; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .2rem .6rem; }
blockquote { border-left: 3px solid var(--line); margin-left: 0; padding-left: 1rem; }
img { display: block; max-width: 100%; max-height: 30rem; }
details { opacity: .75; } section + section { border-top: 3px double var(--line); margin-top: 3rem; }
"""


def page(conversations: Iterable[StoredConversation]) -> str:
    """A whole page; a browser that opens it asks nobody for anything."""
    every = list(conversations)
    title = _line(every[0].title) if len(every) == 1 else f"{len(every)} conversations"
    head = (
        '<!DOCTYPE html>\n<html lang="und">\n<head>\n<meta charset="utf-8">\n'
        # Even if something slipped through, a browser would neither run nor fetch it.
        '<meta http-equiv="Content-Security-Policy" content="'
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title or 'Conversation'}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    return head + "".join(map(_section, every)) + "</body>\n</html>\n"


def _section(stored: StoredConversation) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.created_at))
    about = ", ".join(part for part in (when, _line(stored.model)) if part)
    system = f'<article class="system"><div class="who">System</div>{_plain(stored.system)}</article>\n'
    return (
        f'<section>\n<header><h1>{_line(stored.title) or "Conversation"}</h1><p class="about">{about}</p></header>\n'
        + (system if stored.system else "")
        + "".join(_article(message, stored) for message in stored.messages)
        + "</section>\n"
    )


def _article(message: StoredMessage, stored: StoredConversation) -> str:
    files = "".join(map(_file, message.attachments))
    if message.role == "user":
        return f'<article class="user"><div class="who">You</div>{files}{_plain(message.text)}</article>\n'
    thought = message.reasoning
    reasoning = f"<details><summary>Reasoning</summary>{_plain(thought)}</details>" if thought else ""
    who = _line(message.model or stored.model) or "Assistant"
    return f'<article class="assistant"><div class="who">{who}</div>{reasoning}{_rendered(message.text)}</article>\n'


def _file(attached: Attachment) -> str:
    """A file's name, and a picture itself."""
    named = f'<div class="who">{_line(attached.name)} ({attached.size} bytes)</div>'
    if attached.media not in MEDIA:
        return named
    data = b64encode(attached.data).decode("ascii")
    return f'{named}<img alt="{_line(attached.name)}" src="data:{attached.media};base64,{data}">'


def _rendered(text: str) -> str:
    """Markdown as HTML; HTML in it is text, a picture is a link that fetches nothing until it is followed."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    return str(parser.render(sanitize(text)))


def _plain(text: str) -> str:
    return f'<div class="plain">{escape(sanitize(text))}</div>'


def _line(text: str) -> str:
    return escape(sanitize(text, single_line=True))
