"""`chatcli history`, `show`, `search` and `path`: what there is, as lines for people or JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.history.opening import described, fields, open_store
from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError
from chatcli.streaming.sanitize import sanitize

if TYPE_CHECKING:
    from chatcli.history.records import Hit

Reference = Annotated[str, typer.Argument(metavar="ID", help="Its id, or a beginning of it; @1 is the latest.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many conversations to list.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def history_list(context: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> int:
    """List stored conversations, newest first: id, date, turns, model, title."""
    if context.invoked_subcommand:
        return 0
    environment = real_environment()
    conversations = open_store(environment).recent(limit)
    if as_json:
        print(json.dumps([fields(each) for each in conversations], ensure_ascii=False, indent=2))
        return 0
    if not conversations:
        environment.note("No conversations yet: `chatcli run` begins one.")
    for each in conversations:
        print(described(each, environment))
    return 0


def history_show(conversation: Reference, as_json: AsJson = False) -> int:
    """Print a whole conversation."""
    store = open_store(real_environment())
    stored = store.load(store.find(conversation), branches=as_json)
    if as_json:
        from chatcli.history.export import export

        print(export(stored, "json"), end="")
        return 0
    if stored.system:
        print(f"system: {sanitize(stored.system)}\n")
    for message in stored.messages:
        speaker = "you" if message.role == "user" else sanitize(message.model or stored.model, single_line=True)
        ending = "  [stopped]" if message.finish_reason == "cancelled" else ""
        files = "".join(f"[{sanitize(each.name, single_line=True)}] " for each in message.attachments)
        print(f"{speaker}: {files}{sanitize(message.text)}{ending}\n")
    return 0


def history_search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Words that one message has, in any order.")],
    limit: Limit = 20,
    as_json: AsJson = False,
) -> int:
    """Find conversations by what was said in them, newest first, with a line of the message.

    Every character is plain text. A word may go on: config finds configuration. Chinese, Japanese and
    Korean are found character by character.
    """
    environment = real_environment()
    text = " ".join(query)
    if not text.strip():
        raise UsageError("There is nothing to search for: write the words behind the command.")
    hits = open_store(environment).search(text, limit)
    if as_json:
        print(json.dumps([_found(hit) for hit in hits], ensure_ascii=False, indent=2))
        return 0
    if not hits:
        environment.note("Nothing was found.")
    for hit in hits:
        print(described(hit.conversation, environment))
        if hit.message_id:
            print(f"    {_highlighted(hit, environment)}")
    return 0


def history_path() -> int:
    """Print where the database is."""
    print(real_environment().data_folder / "history.db")
    return 0


def _found(hit: Hit) -> dict[str, object]:
    return {
        **fields(hit.conversation),
        "message": hit.message_id or None,
        "role": hit.role,
        "excerpt": hit.excerpt,
        "marks": hit.marks,
    }


def _highlighted(hit: Hit, environment: Environment) -> str:
    """The excerpt with what was found in bold, where a terminal shows it."""
    shown, end = "", 0
    bold, plain = (_BOLD, _PLAIN) if environment.stdout_is_terminal and environment.color else ("", "")
    for start, stop in hit.marks:
        shown += sanitize(hit.excerpt[end:start], single_line=True)
        shown += bold + sanitize(hit.excerpt[start:stop], single_line=True) + plain
        end = stop
    return shown + sanitize(hit.excerpt[end:], single_line=True)
