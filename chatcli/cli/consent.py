"""`--trust-remote-code`: the one way by which a checkpoint's own Python code comes to run.

It shows the files and the commit and asks a person once; a script must name the commit itself. What was agreed to is
kept for that commit alone. It knows no class of any model.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from chatcli import guide
from chatcli.config import Config
from chatcli.environment import Environment
from chatcli.errors import BrokenCheckpoint, RemoteCodeRefused
from chatcli.generation import Progress

if TYPE_CHECKING:
    from chatcli.models.checkpoint import Checkpoint


def with_agreement(checkpoint: Checkpoint, environment: Environment) -> Checkpoint:
    """The same checkpoint, trusted where a person has agreed to just the code that lies in its folder."""
    from chatcli.models.remote_code import is_agreed, model_code, tokenizer_code

    if not (model_code(checkpoint) or tokenizer_code(checkpoint)) or not is_agreed(
        environment.state_folder, checkpoint
    ):
        return checkpoint
    keep_code_apart(environment)
    return replace(checkpoint, trusted=True)


def require_agreed(checkpoint: Checkpoint, environment: Environment) -> None:
    """Refuse a checkpoint that needs code which nobody agreed to.

    Raises:
        RemoteCodeRefused: naming the files.
    """
    from chatcli.models.remote_code import model_code, require_agreement, tokenizer_code

    if model_code(checkpoint) or tokenizer_code(checkpoint):  # else all is well, and transformers not needed
        from chatcli.runtime.remote_code import code_needed

        require_agreement(with_agreement(checkpoint, environment), code_needed(checkpoint))


def keep_code_apart(environment: Environment) -> None:
    """Let transformers copy the code it runs into a private folder of ours; before it is imported."""
    if "HF_MODULES_CACHE" not in os.environ:
        folder = environment.state_folder / "code"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["HF_MODULES_CACHE"] = str(folder)


def agree_on_code(name: str, config: Config, environment: Environment, revision: str) -> None:
    """Ask a person whether the model's own Python code may run, and fetch it after a yes.

    Raises:
        RemoteCodeRefused: it may not.
        ModelError: there is no such model.
    """
    from chatcli.adapters.table import load_table
    from chatcli.models.hub import survey
    from chatcli.render.progress import ProgressLine

    if name == guide.NAME:
        return
    keep_code_apart(environment)
    if not revision and _agreed_here(name, config, environment):
        return  # without asking the Hub, which may be out of reach
    progress = ProgressLine(environment)
    found, files = survey(
        name,
        aliases=config.aliases,
        revision=revision,
        offline=environment.offline,
        progress=progress.show,
        variables=environment.variables,
        folders=config.model_folders,
        known=load_table(environment.config_folder).examples(),
    )
    progress.clear()
    found = replace(found, name=name)  # of a folder its whole path, as the person must write it to pin the code

    def fetch() -> None:
        if found.revision and not all((found.folder / file).exists() for file in files):
            from chatcli.models.cache import cache_folder
            from chatcli.models.download import download_code

            cache = cache_folder(environment.variables)
            download_code(found.name, found.revision, cache, environment.variables, progress.show)
            progress.clear()

    settle(found, files, revision, environment, fetch)


def _agreed_here(name: str, config: Config, environment: Environment) -> bool:
    """Whether the whole model is on this machine, with code that a person has agreed to."""
    from chatcli.models.cache import is_complete
    from chatcli.models.hub import on_disk

    here = on_disk(name, environment.variables, config.model_folders)
    if not here or not is_complete(here.folder):
        return False
    return with_agreement(replace(here, name=name), environment).trusted


def settle(
    found: Checkpoint,
    files: tuple[str, ...],
    revision: str,
    environment: Environment,
    fetch: Callable[[], None],
) -> None:
    """Come to an agreement on the code of `found`, whose repository holds these Python `files`.

    `revision` is what the person pinned; `fetch` gets the files, and only after a yes.

    Raises:
        RemoteCodeRefused: the answer is no, nobody can answer, or the pinned commit is another one.
    """
    from chatcli.models.remote_code import agree, fingerprint, is_agreed, named_files, require_own_code
    from chatcli.runtime.remote_code import code_needed

    needed = code_needed(found)
    if not needed:
        environment.note(f"chatcli: {found.name} needs no Python code of its own: --trust-remote-code changes nothing.")
        return
    require_own_code(found, needed)
    if is_agreed(environment.state_folder, found):
        return
    if not files:
        raise BrokenCheckpoint(f"{found.name} wants {named_files(needed)} run, but holds no Python file: get it again.")
    pin = found.revision or fingerprint(found.folder)
    if revision and not found.revision and revision != pin:
        raise RemoteCodeRefused(f"The Python code of {found.name} is not {revision}: it is {pin} now; read it again.")
    if environment.stdin_is_terminal and environment.stderr_is_terminal:
        _ask(found, files, pin, environment)
    elif revision != pin:
        raise RemoteCodeRefused(
            f"{found.name} would run its own Python code ({', '.join(files)}), and no terminal is here to ask on: read "
            f"the code, then pin it with --trust-remote-code --revision {pin} --model {shlex.quote(found.name)}."
        )
    fetch()
    agree(environment.state_folder, found)


def _ask(found: Checkpoint, files: tuple[str, ...], pin: str, environment: Environment) -> None:
    from chatcli.streaming.sanitize import sanitize

    what = "commit" if found.revision else "fingerprint of the code"
    lines = [f"{found.name} brings Python code that can do all that you can:", *(f"  {name}" for name in files)]
    lines.append(f"{what} {pin}")
    for line in lines:
        print(sanitize(line, single_line=True), file=environment.stderr)
    print("run it? [y/N] ", end="", file=environment.stderr, flush=True)
    if environment.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RemoteCodeRefused(f"The code of {found.name} was not run, so the model cannot be.")


def commit_note(checkpoint: Checkpoint) -> Progress:
    """What people are told whenever agreed code runs."""
    from chatcli.models.remote_code import fingerprint

    pin = f"commit {checkpoint.revision}" if checkpoint.revision else f"fingerprint {fingerprint(checkpoint.folder)}"
    return Progress("loading", note=f"It runs Python code of {checkpoint.name}, {pin}.")
