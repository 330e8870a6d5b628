"""`chatcli history export` and `import`: conversations to files and from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.history.opening import open_store
from chatcli.cli.output import target_of, write_whole
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from chatcli.history.records import StoredConversation
    from chatcli.history.store import Store

ADDED_AT_ONCE = 100
"""Conversations that one transaction adds, so that a chat beside it does not wait long."""


def history_export(
    conversation: Annotated[
        str, typer.Argument(metavar="[ID]", help="Its id, or a beginning of it; @1 is the latest.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All conversations, the oldest first.")] = False,
    form: Annotated[
        str, typer.Option("--format", "-f", metavar="md|json|jsonl|html", help="Default: by OUTPUT's ending, else md.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write, whole or not at all; default: standard output.")
    ] = "",
) -> int:
    """Write a conversation, or all, as Markdown, JSON, JSON Lines or an HTML page.

    JSON and JSON Lines hold everything, branches too, and can be imported again.
    """
    from chatcli.history.export import FORMS

    form = form or (ending if (ending := Path(output).suffix[1:].lower()) in FORMS else "md")
    if form not in FORMS:
        raise UsageError(f'There is no format "{form}": there is {", ".join(FORMS)}.')
    if every == bool(conversation):
        raise UsageError("Say which conversation to export by its id, or --all.")
    target = None if output in ("", "-") else target_of(output)
    environment = real_environment()
    store = open_store(environment)
    ids = store.ids() if every else [store.find(conversation)]
    text = _written(store, ids, form, every)
    if target is None:
        for piece in text:
            environment.stdout.write(piece)
        return 0
    write_whole(target, text, private=True)
    environment.note(f"{len(ids)} {'conversation is' if len(ids) == 1 else 'conversations are'} in {output}.")
    return 0


def history_import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; `-` is standard input.")],
) -> int:
    """Take in conversations: chatcli's own JSON, ShareGPT, OpenAI messages, as JSON or JSON Lines.

    What is there already is not taken in again.
    """
    from chatcli.history.importing import read_conversations

    environment = real_environment()
    reading = read_conversations(_text(file, environment), environment.now())
    store = open_store(environment)
    ids: list[str] = []
    for start in range(0, len(reading.conversations), ADDED_AT_ONCE):
        ids += store.add_imported(reading.conversations[start : start + ADDED_AT_ONCE])
    added = sum(map(bool, ids))
    print(f"Imported: {added}. There already: {len(ids) - added}. Skipped: {_counted(reading.skipped)}.")
    if not ids:
        raise UsageError(f"{file} holds no conversation that can be imported: see `chatcli history import --help`.")
    return 0


def _written(store: Store, ids: list[str], form: str, every: bool) -> Iterator[str]:
    """The text in pieces: one conversation a time where the form allows it, for a history may be large."""
    from chatcli.history.export import export, export_all

    def loaded() -> Iterator[StoredConversation]:
        return (store.load(each, branches=form in ("json", "jsonl")) for each in ids)

    if form == "jsonl" or not every:
        yield from (export(each, form) for each in loaded())
    else:
        yield export_all(loaded(), form)


def _text(file: str, environment: Environment) -> str:
    try:
        data = environment.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 at byte {error.start}; convert it first.") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _counted(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in skipped.items()) or "nothing"
