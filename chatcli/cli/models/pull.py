"""`chatcli models pull`, also `chatcli pull`: fetch a model, or what is missing of it, or its newer version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli import guide
from chatcli.environment import Environment, real_environment
from chatcli.errors import ModelUnreachable, NotAChatModel, RemoteCodeRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatcli.adapters.table import Table
    from chatcli.config import Config
    from chatcli.models.checkpoint import Checkpoint
    from chatcli.models.transfer import Report

SOURCES = ("hf", "modelscope")


def models_pull(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Hub id or alias.")],
    revision: Annotated[str, typer.Option(help="Commit, branch or tag; default: the main one.")] = "",
    source: Annotated[
        str, typer.Option(metavar="hf|modelscope", help="Where from; a mirror of the Hub by HF_ENDPOINT.")
    ] = "hf",
    force: Annotated[bool, typer.Option("--force", help="Fetch it even if it cannot chat.")] = False,
) -> int:
    """Fetch a model's files, going on where an earlier try stopped; print the folder they are in.

    Only what a chat needs is fetched: safetensors before .bin, no other framework's weights, no Python code.
    """
    from chatcli.cli.models.listing import size
    from chatcli.config import load
    from chatcli.models.extent import size_of
    from chatcli.models.places import places, whole

    environment = real_environment()
    config = load(environment)
    name = config.unaliased(model).strip()
    _require_fetchable(name, source)
    before = whole(places(environment.variables), name, revision)
    try:
        folder = _fetched(name, revision, source, config, environment, force)
    except KeyboardInterrupt:
        environment.note(f"What is here of {name} is kept; the same command goes on.")
        raise
    except ModelUnreachable as error:
        if not before:
            raise
        environment.warn(f"chatcli: {name} is on this machine; whether there is a newer one is not known: {error}")
        folder = before
    else:
        taken = size_of(folder.parent.parent if folder.parent.name == "snapshots" else folder)
        news = "is up to date" if folder == before else f"is here, {size(taken)}"
        environment.note(f"{name} {news}: chatcli run {model}")
    print(folder)
    return 0


def _require_fetchable(name: str, source: str) -> None:
    if source not in SOURCES:
        raise UsageError(f'There is no source "{source}": there is {" and ".join(SOURCES)}.')
    if not name:
        raise UsageError("The model's name is empty: give a Hub id such as Qwen/Qwen3-0.6B.")
    if name == guide.NAME:
        raise UsageError("The guide is part of chatcli, there is nothing to fetch: chatcli run guide.")
    try:
        folder = Path(name).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        folder = False
    if folder:
        raise UsageError(f"{name} is a folder on this machine, there is nothing to fetch: chatcli run {name}.")


def _fetched(name: str, revision: str, source: str, config: Config, environment: Environment, force: bool) -> Path:
    """The folder of the model, whole and as new as its source has it."""
    from chatcli.render.progress import ProgressLine

    line = ProgressLine(environment)
    try:
        return _sought(name, revision, source, config, environment, force, line.show)
    finally:
        line.clear()


def _sought(
    name: str, revision: str, source: str, config: Config, environment: Environment, force: bool, report: Report
) -> Path:
    """The same, telling `report` how far it is."""
    from chatcli.adapters.table import load_table
    from chatcli.models import modelscope_download
    from chatcli.models.hub import required_hub_name, resolve

    table = load_table(environment.config_folder)
    check = _check(table, environment, force)
    if source == "modelscope":
        required_hub_name(name)
        if environment.offline:
            raise ModelUnreachable("HF_HUB_OFFLINE forbids to download: unset it.")
        return modelscope_download.download(name, revision, environment.variables, report, check)
    return resolve(
        name,
        revision=revision,
        offline=environment.offline,
        renew=True,
        progress=report,
        variables=environment.variables,
        folders=config.model_folders,
        known=table.examples(),
        check=check,
    ).folder


def _check(table: Table, environment: Environment, force: bool) -> Callable[[Checkpoint], None]:
    """What looks at a model's small files before its weights come; with `force` it only warns."""
    from chatcli.adapters.format import require_chat_format
    from chatcli.cli.consent import require_agreed
    from chatcli.models.checkpoint import makes_vectors

    def check(checkpoint: Checkpoint) -> None:
        try:
            if not makes_vectors(checkpoint):
                require_chat_format(checkpoint, table)
            require_agreed(checkpoint, environment)
        except (NotAChatModel, RemoteCodeRefused) as error:
            if not force:
                raise type(error)(f"{error} --force fetches it all the same.") from error
            environment.warn(f"chatcli: {error}")

    return check
