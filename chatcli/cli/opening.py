"""From what the command line says to a session that can be talked to.

The wiring of configuration, history, engine and session; it knows no key and no output format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chatcli import guide, sockets
from chatcli.cli.options import Talk
from chatcli.config import Config
from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import Engine
from chatcli.servers.profiles import model_and_server, model_at
from chatcli.torchrun import processes

if TYPE_CHECKING:
    from chatcli.adapters.table import Table
    from chatcli.history.store import Store
    from chatcli.load_request import LoadRequest, Lora
    from chatcli.models.checkpoint import Checkpoint, LoraFolder
    from chatcli.server.api.served import Served
    from chatcli.session import Session
    from chatcli.wire import Spec

Opened = TypeVar("Opened")

GUIDE_NOTE = "The built-in guide answers; for a real model: chatcli config set model NAME"


def open_session(environment: Environment, config: Config, talk: Talk) -> Session:
    """A session whose model begins to load now.

    A conversation that is picked up goes on with its own model and system message unless the command line names
    others. Where the command line trusts the model's own Python code, that may run if the person agrees.

    Raises:
        UsageError: the conversation to pick up does not exist.
        ModelError: there is no agreement on the model's own code.
    """
    from chatcli.session import Session

    store, stored_id = _opened(environment, talk.resume, keep=config.value("history") is not False)
    anew = config.said_by_flag("model") or config.said_by_flag("server")
    stored_model = store.load(stored_id).model if stored_id and not anew else ""
    name = full_name(stored_model, config) if stored_model else meant_model(config)
    if name == guide.NAME:
        environment.note(GUIDE_NOTE)
    if talk.trust and model_and_server(name):
        raise UsageError(f"--trust-remote-code is for models of this machine, and {name} is a server's.")
    if talk.trust:
        from chatcli.cli.consent import agree_on_code

        agree_on_code(named_parts(name, config)[0], config, environment, talk.revision)
    return Session(
        open_engine(name, config, environment, config.load_request(revision=talk.revision, subfolder=talk.subfolder)),
        config.generation_settings(),
        store,
        system=None if stored_id and not config.said_by_flag("system") else str(config.value("system") or ""),
        resume=stored_id,
        said=config.layers(),
        monotonic=environment.monotonic,
    )


def open_engine(
    name: str, config: Config, environment: Environment, request: LoadRequest, *, here: bool = False
) -> DeferredEngine:
    """The engine of the model that a person calls `name`, which begins to load now.

    It is `here`, in this process, or where it stays for the next call, as the configuration says. Folder and adapters
    of the `request` become parts of its name, by which the history finds them again.
    """
    if found := model_and_server(config.unaliased(name)):
        from chatcli.cli.at_server import open_at_server

        return open_at_server(*found, config, environment, request)
    meant = _meant(name, config, request)
    alone = here or processes(environment.variables) > 1 or not (config.keep_alive and sockets.available())
    opened = _open_here if alone else _open_resident

    def open_it(report: Report) -> Engine:
        return opened(meant, config, environment, report, _with_draft_folder(request, config, environment, report))

    return DeferredEngine(open_it, name=meant)


def meant_model(config: Config, name: str = "") -> str:
    """The full name of the model that a person means who says `name`, or nothing beyond the configuration.

    Where a server is set, a name is one of its models; of the configuration's own, one said there or nearer.
    """
    server, said = config.value("server"), name or str(config.value("model") or "")
    if not server or said == guide.NAME or model_and_server(config.unaliased(said)):
        return full_name(said or guide.NAME, config)
    profile = config.servers.get(str(server))
    its_own = profile.model if profile else ""
    ours = name or config.said_by_flag("model") or (not its_own and config.as_near("model", "server"))
    return model_at(said if ours else its_own, str(server))


def _meant(name: str, config: Config, request: LoadRequest) -> str:
    """The full name of a model with the folder and the adapters of the request."""
    from chatcli.models.naming import inside, with_loras

    base, loras = named_parts(name, config)
    return with_loras(inside(base, request.subfolder), (*loras, *map(_absolute, request.loras)))


def _with_draft_folder(request: LoadRequest, config: Config, environment: Environment, report: Report) -> LoadRequest:
    """The request with its draft model found, and fetched where it is not here."""
    if not request.draft:
        return request
    found = find_checkpoint(request.draft, config, environment, report, to_chat=False)
    return replace(request, draft=str((found.gguf.files[0] if found.gguf else found.folder).absolute()))


def _opened(environment: Environment, resume: str, *, keep: bool) -> tuple[Store, str]:
    """The store that the talk is written to, and the id that `resume` means, which is then in it."""
    from chatcli.history.store import Store

    path = environment.data_folder / "history.db"
    if not keep and not resume:
        return Store.in_memory(), ""
    store = Store.open_or_memory(path) if keep else Store.open(path)
    if store.notice:
        environment.note(f"chatcli: {store.notice}")
    stored_id = store.find(resume) if resume else ""
    if keep:
        return store, stored_id
    memory = Store.in_memory()
    memory.add_imported([store.load(stored_id)])
    store.close()
    return memory, stored_id


def full_name(name: str, config: Config) -> str:
    """A name that means the same model tomorrow and in another folder: aliases and relative paths resolved.

    Raises:
        UsageError: an adapter in it is no name and scale.
    """
    if model_and_server(config.unaliased(name)):
        return config.unaliased(name)
    from chatcli.models.naming import with_loras

    base, loras = named_parts(name, config)
    return with_loras(base, loras)


def named_parts(name: str, config: Config) -> tuple[str, tuple[Lora, ...]]:
    """The model and the adapters of a full name.

    Raises:
        UsageError: an adapter in it is no name and scale.
    """
    from chatcli.models.naming import is_ambiguous, without_loras

    name = config.unaliased(name)
    if is_ambiguous(name) and is_path(name):
        raise UsageError(f"{name} has a plus between blanks, which stands for an adapter: rename the folder.")
    base, loras = without_loras(name)
    meant, more = without_loras(config.unaliased(base))
    return _absolute_path(meant), (*map(_absolute, more), *map(_absolute, loras))


def is_path(name: str) -> bool:
    """Whether a person means a file or a folder by this name."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        return False


def _absolute(lora: Lora) -> Lora:
    return replace(lora, name=_absolute_path(lora.name))


def _absolute_path(name: str) -> str:
    if name == guide.NAME:
        return name
    try:
        path = Path(name).expanduser()
        return str(path.resolve()) if path.is_dir() or (path.suffix.lower() == ".gguf" and path.is_file()) else name
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        return name


def local_checkpoint(name: str, config: Config, environment: Environment) -> Checkpoint | None:
    """What of a model is on this machine, perhaps without its weights; None where nothing is, and nothing is fetched.

    Raises:
        BrokenCheckpoint: its config.json is damaged.
        UsageError: the name is empty.
    """
    if not name.strip():
        raise UsageError("The model's name is empty: give a Hub id such as Qwen/Qwen3-0.6B, or a folder.")
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.hub import on_disk

    base, loras = named_parts(name, config)
    if base == guide.NAME:
        return open_checkpoint(guide.folder(), guide.NAME)
    found = on_disk(base, environment.variables, config.model_folders)
    if not (found and loras):
        return found
    return _wearing(found, _lora_folders(loras, config, environment, lambda _: None, offline=True))


def _open_resident(name: str, config: Config, environment: Environment, report: Report, request: LoadRequest) -> Engine:
    """The model in the process that keeps it, which is started where it is not there."""
    from chatcli.cli.consent import commit_note, with_agreement
    from chatcli.engines.resident import find_resident, open_resident, specify

    place = sockets.folder(environment.variables)
    if not sockets.is_private(place):
        return _open_here(name, config, environment, report, request)

    def spec(checkpoint: Checkpoint) -> Spec:
        return specify(checkpoint, request, environment.config_folder, environment.variables)

    here = None if request.revision else local_checkpoint(name, config, environment)
    # What could be wrong with its files was not when that process loaded them.
    if here and (found := find_resident(spec(with_agreement(here, environment)), place, config.keep_alive, report)):
        return found
    checkpoint = find_checkpoint(name, config, environment, report, revision=request.revision, adapter=request.adapter)
    if checkpoint.trusted:
        report(commit_note(checkpoint))
    return open_resident(spec(checkpoint), place, config.keep_alive, report)


def located(
    name: str, config: Config, environment: Environment, report: Report, request: LoadRequest
) -> tuple[Checkpoint, LoadRequest]:
    """The files of the model that a person calls `name`, and the request with its draft: what is opened elsewhere."""
    request = _with_draft_folder(request, config, environment, report)
    meant = _meant(name, config, request)
    found = find_checkpoint(
        meant, config, environment, report, revision=request.revision, adapter=request.adapter, embeds=True
    )
    return found, request


def open_served(name: str, config: Config, environment: Environment, report: Report, request: LoadRequest) -> Served:
    """The model that a person calls `name`, in this process, for many who ask at once."""
    from chatcli.engines.served import open_served as opened

    request = _with_draft_folder(request, config, environment, report)
    return _here(opened, _meant(name, config, request), config, environment, report, request, embeds=True)


def _open_here(name: str, config: Config, environment: Environment, report: Report, request: LoadRequest) -> Engine:
    """The model in this process, for one talk."""
    from chatcli.engines.local import open_local

    return _here(open_local, name, config, environment, report, request)


def _here(
    opened: Callable[[Checkpoint, Table, Report, LoadRequest], Opened],
    name: str,
    config: Config,
    environment: Environment,
    report: Report,
    request: LoadRequest,
    *,
    embeds: bool = False,
) -> Opened:
    """What `opened` makes of the model's files; idle models in other processes leave where it needs their room."""
    from chatcli.adapters.table import load_table
    from chatcli.cli.consent import commit_note
    from chatcli.engines.resident import fits, make_room

    table = load_table(environment.config_folder)
    checkpoint = find_checkpoint(
        name, config, environment, report, revision=request.revision, adapter=request.adapter, embeds=embeds
    )
    if checkpoint.trusted:
        report(commit_note(checkpoint))
    if sockets.available():
        make_room(sockets.folder(environment.variables), lambda: fits(checkpoint, request), checkpoint.name)
    return opened(checkpoint, table, report, request)


def find_checkpoint(
    name: str,
    config: Config,
    environment: Environment,
    report: Report,
    *,
    revision: str = "",
    adapter: str = "",
    to_chat: bool = True,
    embeds: bool = False,
) -> Checkpoint:
    """The files of the model that a person calls `name`: the guide, an alias, a folder, a Hub id.

    `adapter` is the row that a person named for it.

    What cannot chat is refused before its weights are fetched, unless it is not `to_chat`, or makes vectors and one
    that `embeds` will do as well; so is what needs code of its own that nobody agreed to.

    Raises:
        ModelError: there are none, or they cannot be had.
        ConfigError: adapters.toml has a mistake.
    """
    from chatcli.adapters.format import require_chat_format
    from chatcli.adapters.table import load_table
    from chatcli.cli.consent import require_agreed, with_agreement
    from chatcli.models.checkpoint import makes_vectors, open_checkpoint, require_chat_model
    from chatcli.models.hub import resolve

    base, loras = named_parts(name, config)
    if base == guide.NAME and not loras:
        return open_checkpoint(guide.folder(), guide.NAME)
    table = load_table(environment.config_folder).saying(adapter)

    def check(checkpoint: Checkpoint) -> None:
        chats = to_chat and not (embeds and makes_vectors(checkpoint))
        if chats:
            require_chat_model(checkpoint)
        require_agreed(checkpoint, environment)  # before its format, which a family of its own seldom says
        if chats:
            require_chat_format(checkpoint, table)

    worn = _lora_folders(loras, config, environment, report, offline=environment.offline)
    found = resolve(
        str(guide.folder()) if base == guide.NAME else base,
        aliases=config.aliases,
        revision=revision,
        offline=environment.offline,
        progress=report,
        variables=environment.variables,
        folders=config.model_folders,
        known=table.examples(),
        check=lambda checkpoint: check(_wearing(checkpoint, worn)),
    )
    found = with_agreement(found, environment)
    if revision and not (found.revision or found.trusted):
        raise UsageError(f"{base} is a folder and has no revisions: leave --revision out.")
    found = _wearing(replace(found, name=base), worn)
    if to_chat:
        check(found)  # what was on this machine has not been
    return found


def _lora_folders(
    loras: tuple[Lora, ...], config: Config, environment: Environment, report: Report, *, offline: bool
) -> tuple[LoraFolder, ...]:
    """Where these adapters are, after getting those that are not here."""
    from chatcli.models.checkpoint import LoraFolder
    from chatcli.models.hub import find_lora

    folders, variables = config.model_folders, environment.variables
    return tuple(
        LoraFolder(
            each.name,
            find_lora(
                config.unaliased(each.name),
                offline=offline,
                progress=report,
                variables=variables,
                folders=folders,
            ),
            each.scale,
        )
        for each in loras
    )


def _wearing(checkpoint: Checkpoint, loras: tuple[LoraFolder, ...]) -> Checkpoint:
    """The checkpoint with these adapters on it, which its name then says."""
    from chatcli.load_request import Lora
    from chatcli.models.lora import with_lora
    from chatcli.models.naming import with_loras

    name = with_loras(checkpoint.name, tuple(Lora(each.name, each.scale) for each in loras))
    for each in loras:
        checkpoint = with_lora(checkpoint, each)
    return replace(checkpoint, name=name)
