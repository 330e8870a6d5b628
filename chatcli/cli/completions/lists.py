"""The small lists that completion scripts read: models, servers, conversations, templates, adapters.

One file a list in the state folder, a line an entry: the name, a tab, what it is. They are written
again when what they are made of has changed, which costs a `stat` where it has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from chatcli.environment import Environment
from chatcli.errors import ChatcliError
from chatcli.streaming.sanitize import sanitize

CONVERSATIONS = 200
"""How many of the latest conversations are offered."""

Entry = tuple[str, str]


def folder(environment: Environment) -> Path:
    """Where the lists are."""
    return environment.state_folder / "completion"


def refresh(environment: Environment) -> None:
    """Write every list whose source is newer than it; a folder that cannot be written to is left alone."""
    from chatcli import prompts
    from chatcli.adapters.table import adapters_file
    from chatcli.models.places import places

    history = environment.data_folder / "history.db"
    config = environment.config_folder / "config.toml"
    here = places(environment.variables)
    caches = (here.hub, here.modelscope / "models", here.modelscope / "hub" / "models")
    _write(environment, "models", (config, *caches), lambda: _models(environment))
    _write(environment, "servers", (config,), lambda: _servers(environment))
    # What is newest in SQLite's WAL mode is beside the database.
    _write(
        environment,
        "conversations",
        (history, history.with_name("history.db-wal")),
        lambda: _talks(environment, history),
    )
    own = adapters_file(environment.config_folder)
    _write(environment, "adapters", (own,), lambda: _adapters(environment))
    _write(environment, "templates", (prompts.folder(environment.config_folder),), lambda: _templates(environment))


def _write(
    environment: Environment, name: str, sources: Iterable[Path], entries: Callable[[], Iterable[Entry]]
) -> None:
    target = folder(environment) / name
    with suppress(OSError, ChatcliError):
        changed = [source.stat().st_mtime_ns for source in sources if source.exists()]
        if target.exists() and target.stat().st_mtime_ns > max(changed, default=0):
            return
        lines = [f"{word}\t{sanitize(text, single_line=True)}\n" for word, text in entries()]
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(target)


def _models(environment: Environment) -> Iterable[Entry]:
    from chatcli import config, guide
    from chatcli.models.places import names, places

    loaded = config.load(environment)
    yield guide.NAME, "the built-in guide"
    yield from loaded.aliases.items()
    for name in names(places(environment.variables, loaded.model_folders)):
        yield name, "on this machine"


def _servers(environment: Environment) -> Iterable[Entry]:
    from chatcli import config

    return [(each.name, each.address.url) for each in config.load(environment).servers.values()]


def _talks(environment: Environment, history: Path) -> Iterable[Entry]:
    from contextlib import closing

    from chatcli.cli.history.opening import open_store

    if not history.exists():
        return
    with closing(open_store(environment)) as store:  # says so where the file is damaged and was set aside
        yield from ((each.id, each.title) for each in store.recent(CONVERSATIONS))


def _adapters(environment: Environment) -> Iterable[Entry]:
    from chatcli.adapters.table import load_table

    return [(row.name, "a row of the adapter table") for row in load_table(environment.config_folder).rows]


def _templates(environment: Environment) -> Iterable[Entry]:
    from chatcli import prompts

    return [(each.name, each.about) for each in prompts.templates(environment.config_folder).values()]
