"""What a command's argument may be, for completion: words with a few more that say what they are.

It knows the session, the models of this machine and named servers; no key, and no files, which the prompt completes.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatcli import config, guide
from chatcli.errors import ChatcliError
from chatcli.models.cache import cache_folder, cached_names
from chatcli.repl.commands.table import COMMANDS, Completes
from chatcli.repl.commands.values import names
from chatcli.repl.state import Chat
from chatcli.servers.profiles import model_at

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
        loaded = config.load(chat.environment)
        known = [(guide.NAME, "the built-in guide"), *loaded.aliases.items()]
        at_servers = [(model_at(each.model, each.name), each.address.url) for each in loaded.servers.values()]
        return [*known, *((name, "on this machine") for name in cached_names(cache)), *at_servers]
    return []
