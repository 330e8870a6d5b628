"""From what the command line says to a session that can be talked to.

The wiring of configuration, history, engine and session; it knows no key and no output format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli import guide
from chatcli.config import Config, load
from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.environment import Environment
from chatcli.generation import Engine
from chatcli.history.store import Store
from chatcli.session import Session

if TYPE_CHECKING:
    from chatcli.models.checkpoint import Checkpoint

GUIDE_NOTE = "The built-in guide answers; for a real model: chatcli config set model NAME"


def open_session(environment: Environment, flags: Mapping[str, object], *, resume: str = "") -> Session:
    """A session whose model begins to load now.

    `flags` are what the command line says, by the names of the configuration; `resume` is the id of a
    stored conversation, which goes on with its own model unless a flag names another.

    Raises:
        ConfigError: a setting is wrong.
        UsageError: `resume` names no conversation.
    """
    config = load(environment, flags)
    store = Store.open_or_memory(environment.data_folder / "history.db")
    if store.notice:
        environment.note(f"chatcli: {store.notice}")
    stored_id = store.find(resume) if resume else ""
    stored_model = store.load(stored_id).model if stored_id else ""
    name = full_name(str(flags.get("model") or stored_model or config.value("model") or guide.NAME), config)
    if name == guide.NAME:
        environment.note(GUIDE_NOTE)
    engine = DeferredEngine(lambda report: _open_local(name, config, environment, report), name=name)
    system = None if stored_id and "system" not in flags else str(config.value("system") or "")
    settings = config.generation_settings()
    return Session(engine, settings, store, system=system, resume=stored_id, monotonic=environment.monotonic)


def full_name(name: str, config: Config) -> str:
    """A name that means the same model tomorrow and in another folder: aliases and relative paths resolved."""
    name = config.aliases.get(name, name)
    if name == guide.NAME:
        return name
    try:
        folder = Path(name).expanduser()
        return str(folder.resolve()) if folder.is_dir() else name
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        return name


def _open_local(name: str, config: Config, environment: Environment, report: Report) -> Engine:
    from chatcli.adapters.table import load_table
    from chatcli.engines.local import open_local

    table = load_table(environment.config_folder)
    return open_local(find_checkpoint(name, config, environment, report), table, report)


def find_checkpoint(
    name: str, config: Config, environment: Environment, report: Report, *, to_chat: bool = True
) -> Checkpoint:
    """The files of the model that a person calls `name`: the guide, an alias, a folder, a Hub id.

    What cannot chat is refused before its weights are fetched, unless it is not `to_chat`.

    Raises:
        ModelError: there are none, or they cannot be had.
        ConfigError: adapters.toml has a mistake.
    """
    from chatcli.adapters.format import require_chat_format
    from chatcli.adapters.table import load_table
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.hub import resolve

    meant = full_name(name, config)
    if meant == guide.NAME:
        return open_checkpoint(guide.folder(), guide.NAME)
    table = load_table(environment.config_folder)
    found = resolve(
        meant,
        aliases=config.aliases,
        offline=environment.variables.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"),
        progress=report,
        variables=environment.variables,
        known=table.examples(),
        check=lambda checkpoint: require_chat_format(checkpoint, table) if to_chat else None,
    )
    return replace(found, name=meant)
