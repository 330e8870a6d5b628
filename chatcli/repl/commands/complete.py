"""What a command's argument may be, for completion: words with a few more that say what they are.

It knows the session and the model cache; it knows no key, and no files, which the prompt completes itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatcli import config, guide
from chatcli.errors import ChatcliError
from chatcli.models.cache import cache_folder, cached_names
from chatcli.repl.commands.table import COMMANDS, Completes
from chatcli.repl.commands.values import names
from chatcli.repl.state import Chat

TALKS = 200
"""How many of the latest conversations are offered."""


def candidates(chat: Chat, what: Completes) -> list[tuple[str, str]]:
    """Every word that an argument of this kind may be, with what it stands for; none where nobody can guess."""
    try:
        return list(_candidates(chat, what))
    except ChatcliError:  # a history that cannot be read is no reason to stop typing
        return []


def _candidates(chat: Chat, what: Completes) -> Iterable[tuple[str, str]]:
    session = chat.session
    if isinstance(what, tuple):
        return [(word, "") for word in what]
    if what == "commands":
        return [(each.name, each.help) for each in COMMANDS.values()]
    if what == "settings":
        return [(name, config.KINDS[name].allowed) for name in names()]
    if what == "branches":
        return [(str(number), each.words) for number, each in enumerate(session.branches(), 1)]
    if what == "talks":
        return [(each.id, each.title) for each in session.store.recent(TALKS)]
    if what == "models":
        cache = cache_folder(chat.environment.variables)
        known = [(guide.NAME, "the built-in guide"), *config.load(chat.environment).aliases.items()]
        return [*known, *((name, "on this machine") for name in cached_names(cache))]
    return []
