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
from chatcli.errors import UsageError
from chatcli.generation import Engine
from chatcli.history.store import Store
from chatcli.session import Session

if TYPE_CHECKING:
    from chatcli.models.checkpoint import Checkpoint

GUIDE_NOTE = "The built-in guide answers; for a real model: chatcli config set model NAME"


def open_session(
    environment: Environment, flags: Mapping[str, object], *, resume: str = "", revision: str = "", trust: bool = False
) -> Session:
    """A session whose model begins to load now.

    `flags` are what the command line says, by the names of the configuration; `resume` is the id of a
    stored conversation, which goes on with its own model unless a flag names another. `trust` lets the model's own
    Python code run, where the person agrees.

    Raises:
        ConfigError: a setting is wrong.
        UsageError: `resume` names no conversation.
        ModelError: there is no agreement on the model's own code.
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
    if trust:
        from chatcli.cli.consent import agree_on_code

        agree_on_code(name, config, environment, revision)
    engine = DeferredEngine(lambda report: _open_local(name, config, environment, report, revision), name=name)
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


def _open_local(name: str, config: Config, environment: Environment, report: Report, revision: str) -> Engine:
    from chatcli.adapters.table import load_table
    from chatcli.cli.consent import commit_note
    from chatcli.engines.local import open_local

    table = load_table(environment.config_folder)
    checkpoint = find_checkpoint(name, config, environment, report, revision=revision)
    if checkpoint.trusted:
        report(commit_note(checkpoint))
    return open_local(checkpoint, table, report)


def find_checkpoint(
    name: str, config: Config, environment: Environment, report: Report, *, revision: str = "", to_chat: bool = True
) -> Checkpoint:
    """The files of the model that a person calls `name`: the guide, an alias, a folder, a Hub id.

    What cannot chat is refused before its weights are fetched, unless it is not `to_chat`; so is what needs code of
    its own that nobody agreed to.

    Raises:
        ModelError: there are none, or they cannot be had.
        ConfigError: adapters.toml has a mistake.
    """
    from chatcli.adapters.format import require_chat_format
    from chatcli.adapters.table import load_table
    from chatcli.cli.consent import require_agreed, with_agreement
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.hub import resolve

    meant = full_name(name, config)
    if meant == guide.NAME:
        return open_checkpoint(guide.folder(), guide.NAME)
    table = load_table(environment.config_folder)

    def check(checkpoint: Checkpoint) -> None:
        if to_chat:
            require_chat_format(checkpoint, table)
        require_agreed(checkpoint, environment)

    found = resolve(
        meant,
        aliases=config.aliases,
        revision=revision,
        offline=environment.offline,
        progress=report,
        variables=environment.variables,
        known=table.examples(),
        check=check,
    )
    found = with_agreement(found, environment)
    if revision and not (found.revision or found.trusted):
        raise UsageError(f"{meant} is a folder and has no revisions: leave --revision out.")
    return replace(found, name=meant)
