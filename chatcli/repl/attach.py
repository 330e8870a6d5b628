"""Text files and pictures that go with a message: named with @ in it, or by /file and /image.

It reads files and has them counted; it knows no key and no screen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from chatcli.conversation import Attachment, Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import Engine
from chatcli.images import is_image, read_image
from chatcli.repl.state import Chat

LONGEST_TOKEN = 256
"""Bytes of the longest tokens in use, which are runs of blanks: a file of more than so many for each token of the
context is too long without a count."""
MOST_BYTES = 64 << 20
"""The largest file that is read before the model, and so its context, is known."""

# Not inside a word, as in an address; a Chinese character before it is no part of a word.
_MENTION = re.compile(r"""(?<![\w.+@/-])@(?:"([^"\n]+)"|([^\s"@]{1,1024}))|(?<=[\u2e80-\uffef])@([^\s"@]{1,1024})""")
_AFTER = re.compile(r"""[^\x00-\x7f]|[,;:!?)\]}>'"`]|\.(?!\w)""")
"""How what follows a name begins: with punctuation, or with Chinese, which is written without blanks."""


def mentioned(text: str) -> Iterator[str]:
    """The files that a text names with @, in order, each once; what is no file is text like any other."""
    seen = set()
    for match in _MENTION.finditer(text):
        word = match[1] or match[2] or match[3]
        name = word if match[1] and _is_file(word) else _longest_file(word)
        if name and name not in seen:
            seen.add(name)
            yield name


def _longest_file(word: str) -> str:
    ends = [len(word), *(match.start() for match in reversed(list(_AFTER.finditer(word))))]
    return next((word[:end] for end in ends if end and _is_file(word[:end])), "")


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def read_file(name: str, engine: Engine) -> Attachment:
    """The text file or the picture that a person calls `name`.

    Raises:
        UsageError: there is none, it is no text, it is larger than the model's context, or the model sees no pictures.
    """
    if is_image(name):
        return read_picture(name, engine)
    data = _bytes(name, engine.facts.context * LONGEST_TOKEN or MOST_BYTES)
    if b"\0" in data:
        raise UsageError(f"{name} is binary, and a model reads text: convert it to text first.")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 at byte {error.start}: convert it to UTF-8 text first.") from error
    if not text.strip():
        raise UsageError(f"{name} is empty: there is nothing in it to read.")
    attachment = Attachment(name, len(data), hashlib.sha256(data).hexdigest(), text)
    tokens, context = count(attachment, engine), engine.facts.context
    if context and tokens > context:
        raise UsageError(
            f"{name} has {tokens:,} tokens, and the model's context holds {context:,}: attach a part of it, "
            "or choose a model with a longer context."
        )
    return attachment


def read_picture(name: str, engine: Engine) -> Attachment:
    """The picture that a person calls `name`.

    Raises:
        UsageError: there is none, or the model sees no pictures.
    """
    if engine.facts.sees is False:
        raise UsageError(
            f"{engine.facts.model} cannot be shown pictures: choose a model that sees, as in "
            "/model Qwen/Qwen2.5-VL-3B-Instruct."
        )
    return read_image(name)


def require_short(text: str, engine: Engine) -> None:
    """Refuse a message that no count is needed to see is too long: to count 10 MB takes long.

    Raises:
        UsageError: it is.
    """
    context = engine.facts.context
    if context and len(text) > context * LONGEST_TOKEN:
        raise UsageError(
            f"The message has {len(text):,} characters, and the model's context holds {context:,} tokens: shorten it."
        )


def _bytes(name: str, most: int) -> bytes:
    try:
        file = Path(name).expanduser()
        if file.is_dir():
            raise UsageError(f"{name} is a folder: name a file in it.")
        if file.exists() and not file.is_file():
            raise UsageError(f"{name} is a device, not a text file: name a file.")
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{name} cannot be read ({reason}): see that its name is right.") from error
    if len(data) > most:
        raise UsageError(f"{name} is larger than {most:,} bytes, which no context holds: attach a part of it.")
    return data


def count(attachment: Attachment, engine: Engine) -> int:
    """Tokens of a file as part of a question; 0 where the engine cannot tell yet."""
    return engine.count(Conversation((Message("user", attachment.fenced),)))


def described(attachment: Attachment, engine: Engine) -> str:
    """A file in one line, such as "notes.md, 1,234 tokens"."""
    if attachment.data:
        return f"{attachment.name}, a picture of {attachment.size:,} bytes"
    tokens = count(attachment, engine)
    return f"{attachment.name}, {tokens:,} tokens" if tokens else f"{attachment.name}, {attachment.size:,} bytes"


def files_with(chat: Chat, own: str) -> list[Attachment]:
    """The files that go with a message: those that /file attached, then those that its text names.

    Raises:
        UsageError: one of them cannot go with it.
    """
    names = {each.name for each in chat.attached}
    return [*chat.attached, *(read_file(name, chat.session.engine) for name in mentioned(own) if name not in names)]


def attach_again(chat: Chat, question: Message | None) -> None:
    """Attach the files of a question that is to be sent again, but those that its text names."""
    named: set[str] = set()
    if question:
        with suppress(UsageError):
            named = set(mentioned(question.text))
    chat.attached[:] = [each for each in question.attachments if each.name not in named] if question else []
