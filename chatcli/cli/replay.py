"""`chatcli replay`: a stored reply said again, to see whether it comes out the same.

It knows what the history keeps of how a reply was made; the model is opened as for any question.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatcli.environment import real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from chatcli.generation import GenerationSettings
    from chatcli.history.records import StoredConversation

DIFFERENT = 1
"""Exit code when the reply came out otherwise, as that of `diff` and `cmp`."""


def replay(
    conversation: Annotated[
        str, typer.Argument(metavar="ID", help="Which conversation's last reply; a beginning of its id, or @1.")
    ],
) -> int:
    """Say a stored reply again, with its model, revision, settings and seed; exit with 1 where it differs."""
    from chatcli.cli.opening import open_engine
    from chatcli.config import load
    from chatcli.conversation import Conversation
    from chatcli.generation import Event, Reasoning, Text
    from chatcli.history.store import Store
    from chatcli.render.answer import show_answer

    environment = real_environment()
    with closing(Store.open_to_read(environment.data_folder / "history.db")) as store:
        stored = store.load(store.find(conversation))
    place = _last_reply(stored)
    reply = stored.messages[place]
    if not reply.model:
        raise UsageError(f"The conversation {stored.id} does not say which model made its reply.")
    asked = Conversation(tuple(m.message.spelled_out for m in stored.messages[:place]))
    config = load(environment)
    engine = open_engine(reply.model, config, environment, config.load_request(revision=reply.revision))
    text, reasoning = [], []

    def noted(event: Event) -> Event:
        if isinstance(event, Text):
            text.append(event.text)
        elif isinstance(event, Reasoning):
            reasoning.append(event.text)
        return event

    with closing(engine.stream(asked.with_system(stored.system), settings_of(reply.settings))) as events:
        show_answer(map(noted, events), environment)
    verdict = compared(
        (reply.reasoning, reply.text),
        ("".join(reasoning), "".join(text)),
        cut=reply.finish_reason in ("cancelled", "error", None),
    )
    print(f"chatcli: {verdict or 'the reply is the same'}.", file=sys.stderr)
    return DIFFERENT if verdict else 0


def settings_of(kept: Mapping[str, Any]) -> GenerationSettings:
    """The settings that a reply was made under, from how the history keeps them.

    Raises:
        UsageError: they are not of ours, as those of an imported conversation may be.
    """
    from chatcli import config
    from chatcli.generation import Constraint, GenerationSettings

    names = {field: name for name, field in config.FIELDS.items()}
    try:
        said = {
            field: Constraint(**value) if field == "constraint" else config.check(names.get(field, field), value)
            for field, value in kept.items()
            if field != "top_logprobs"
        }
        return GenerationSettings(**said)  # type: ignore[arg-type]
    except (TypeError, UsageError) as error:
        raise UsageError(f"The reply was made under settings that cannot be taken up again: {error}") from error


def compared(before: tuple[str, str], now: tuple[str, str], *, cut: bool) -> str:
    """Where two replies, each as reasoning and text, first differ, in words; empty where they do not.

    Of one that was `cut`, by a person or a failure, only what came before the cut is compared.
    """
    for part, old, new in zip(("reasoning", "text"), before, now, strict=True):
        if old == new or (cut and new.startswith(old)):
            continue
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        return f"the reply differs from character {same + 1} of its {part} on"
    return ""


def _last_reply(stored: StoredConversation) -> int:
    for place in range(len(stored.messages) - 1, -1, -1):
        if stored.messages[place].role == "assistant":
            return place
    raise UsageError(f"The conversation {stored.id} has no reply to say again.")
