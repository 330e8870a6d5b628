"""Commands for files: /file, /image, /save and /load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from chatcli.conversation import Attachment
from chatcli.errors import UsageError
from chatcli.repl.attach import described, read_file, read_picture
from chatcli.repl.commands.stored import about_model
from chatcli.repl.commands.table import command
from chatcli.repl.commands.talk import show_end
from chatcli.repl.state import Chat


@command("file", "[PATH|-]", example="/file notes.md", completes="files")
def _file(chat: Chat, argument: str) -> None:
    """Attach a text file to the next message, as @notes.md in the message does; a dash takes attached files back."""
    if argument == "-":
        chat.attached.clear()
    elif argument:
        _attach(chat, read_file(str(_path(argument, "")), chat.session.engine))
    _list_attached(chat, "No file is attached.")


@command("image", "[FILE|-]", example="/image photo.jpg", completes="images")
def _image(chat: Chat, argument: str) -> None:
    """Show a picture with the next message, to a model that sees; a dash takes attached pictures back."""
    if argument == "-":
        chat.attached[:] = [each for each in chat.attached if not each.data]
    elif argument:
        name = _unquoted(argument)
        _attach(chat, read_picture(name, chat.session.engine))
    _list_attached(chat, "No picture is attached.")


def _attach(chat: Chat, attachment: Attachment) -> None:
    """Add a file to those of the next message, in place of one of its name."""
    chat.attached[:] = [each for each in chat.attached if each.name != attachment.name] + [attachment]


def _list_attached(chat: Chat, none: str) -> None:
    if not chat.attached:
        chat.prose(none)
        return
    chat.print("\n".join(described(each, chat.session.engine) for each in chat.attached))
    chat.prose("It goes with the next message." if len(chat.attached) == 1 else "They go with the next message.")


@command("save", "FILE", example="/save rome.md", completes="files")
def _save(chat: Chat, argument: str) -> None:
    """Write the talk to a file, as its ending says: .md, .json, .jsonl or .html; never over another file."""
    _write(chat, argument, over=False)


@command("save!", "FILE", example="/save! rome.md", completes="files")
def _save_over(chat: Chat, argument: str) -> None:
    """Write the talk to a file as /save does, also over one that is there."""
    _write(chat, argument, over=True)


def _write(chat: Chat, argument: str, *, over: bool) -> None:
    from chatcli.history.export import FORMS, export

    file = _path(argument, "/save needs a file, as in /save talk.md; its ending says how it is written.")
    if not file.suffix:
        file = file.with_name(f"{file.name}.md")
    form = file.suffix[1:].lower()
    if form not in FORMS:
        endings = ", ".join(f".{name}" for name in FORMS)
        raise UsageError(f"{file.name} ends with {file.suffix}, and a talk is written to {endings} only.")
    if not chat.session.conversation.spoken:
        raise UsageError("There is nothing to save yet.")
    text = export(chat.session.stored(branches=form in ("json", "jsonl")), form)
    with _explained(file):
        # As private as the history is; O_EXCL, so that nothing comes between a look and the writing.
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if over else os.O_EXCL)
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    chat.prose(f"Saved to {file}.")


@command("load", "FILE", example="/load rome.json", completes="files")
def _load(chat: Chat, argument: str) -> None:
    """Go on with a talk from a .json or .jsonl file, which joins the history as a new conversation."""
    from chatcli.history.importing import read_conversations
    from chatcli.history.rows import new_id

    file = _path(argument, "/load needs a file that /save wrote as .json, or another program as messages.")
    with _explained(file):
        data = file.read_bytes()
    try:
        reading = read_conversations(data.decode("utf-8-sig"), chat.environment.now())
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 at byte {error.start}; convert it first.") from error
    if len(reading.conversations) != 1:
        count = len(reading.conversations)
        hint = "; `chatcli history import` takes in all of them" if count else ""
        raise UsageError(f"{file} holds {count or 'no'} conversations, and /load goes on with one{hint}.")
    # A new id: the file says how the talk was then, and what is stored may have gone on.
    loaded = replace(reading.conversations[0], id=new_id())
    chat.session.store.add_imported([loaded])
    chat.session.resume(loaded.id)
    left_out = ", ".join(f"{number} x {what}" for what, number in reading.skipped.items())
    chat.prose(f"Going on with the talk in {file}" + (f"; left out: {left_out}." if left_out else "."))
    about_model(chat, loaded.model)
    show_end(chat)


def _path(argument: str, missing: str) -> Path:
    """The file that a person names, perhaps in quotes or below ~."""
    name = _unquoted(argument)
    if not name:
        raise UsageError(missing)
    path = Path(name)
    with suppress(RuntimeError):  # a home that nobody has
        path = path.expanduser()
    return path


def _unquoted(argument: str) -> str:
    name = argument.strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise UsageError(f"{file} is there already; /save! {file} writes over it.") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"{file} cannot be opened ({reason}); name another file.") from error
