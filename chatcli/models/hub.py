"""From a name to a checkpoint on disk: an alias, a folder, what lies in the caches, at last the Hub.

What is on disk is used without asking anybody. All that can go wrong on the way becomes one sentence
here. It knows nothing of what is in the files beyond which ones a chat needs.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chatcli.errors import ModelNotFound, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models.cache import snapshot
from chatcli.models.checkpoint import Checkpoint, open_checkpoint, require_chat_model
from chatcli.models.places import Places, begun, names, places, whole
from chatcli.models.remote_code import code_files

Report = Callable[[Progress], None]

# As huggingface_hub validates them: at most one slash, letters, digits, - _ . and no double -- or ..
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9_][\w.-]{0,95}(?<![.-])", re.ASCII)


def resolve(
    name: str,
    *,
    aliases: Mapping[str, str] | None = None,
    revision: str | None = None,
    offline: bool = False,
    progress: Report | None = None,
    variables: Mapping[str, str] | None = None,
    folders: Collection[str] = (),
    known: Collection[str] = (),
    check: Callable[[Checkpoint], None] = require_chat_model,
) -> Checkpoint:
    """The checkpoint that a person means by `name`.

    An alias is looked up first; a folder is opened as it is; any other name is looked for in the caches and in the
    person's `folders`, and downloaded from the Hub where its files are not all there. `variables` (default: the
    process's own) say where the caches and the Hub are; `known` are further ids to offer when a name is mistyped.
    `check` may refuse a model by its small files, before gigabytes of weights are fetched.

    Raises:
        ModelNotFound: nothing has that name; nearest ones are offered.
        ModelUnreachable: it is not on disk, and the Hub may not or cannot be asked.
        ModelGated: the Hub wants a token or an accepted licence.
        BrokenCheckpoint: the files are there, but damaged.
    """
    variables = os.environ if variables is None else variables
    meant, folder = _meaning(name, aliases or {})
    if folder:
        return open_checkpoint(folder, name=_folder_name(folder))
    here = places(variables, folders)
    found = whole(here, meant, revision or "")
    if found is None:
        suggest = _Suggestions(name, (*(aliases or {}), *names(here), *known))
        require_hub_id(meant, suggest.sentence)
        if offline:
            raise ModelUnreachable(
                f"{meant} is not on this machine, and HF_HUB_OFFLINE forbids to download it: "
                f"unset it, or name a model that is here{suggest.here(here)}."
            )
        from chatcli.models.download import download

        with suggest.added():
            found = download(meant, revision or "main", here.hub, variables, progress or (lambda _: None), check)
    return open_checkpoint(found, name=meant, revision=_revision(found))


def on_disk(name: str, variables: Mapping[str, str], folders: Collection[str] = ()) -> Checkpoint | None:
    """What is here of the model that a name or a folder means, if only its config.json; nobody is asked for more.

    Raises:
        BrokenCheckpoint: config.json is damaged.
    """
    try:
        folder: Path | None = Path(name).expanduser()
        if not (folder and (folder / "config.json").is_file()):
            folder = begun(places(variables, folders), name) if _HUB_ID.fullmatch(name) else None
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        return None
    return open_checkpoint(folder, name, _revision(folder)) if folder else None


def _revision(folder: Path) -> str:
    """What a cache calls the revision in a folder: a commit of the Hub; empty for a plain folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def not_here(
    name: str, variables: Mapping[str, str], known: Collection[str] = (), folders: Collection[str] = ()
) -> ModelNotFound:
    """The error for a name of which nothing is on this machine, with names that are close to it.

    Raises:
        ModelNotFound: the name can only be a path.
    """
    _as_folder(name)
    suggest = _Suggestions(name, (*names(places(variables, folders)), *known))
    return ModelNotFound(f"{name} is not on this machine; `chatcli run {name}` would fetch it.{suggest.sentence}")


def survey(
    name: str,
    *,
    aliases: Mapping[str, str],
    revision: str,
    offline: bool,
    progress: Report,
    variables: Mapping[str, str],
    folders: Collection[str] = (),
    known: Collection[str] = (),
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint that `resolve` would find, by its small files, and the names of the Python files at its commit.

    Where the Hub may not or cannot be asked, those on disk are named. Raises as `resolve` does.
    """
    meant, folder = _meaning(name, aliases)
    if folder:
        return open_checkpoint(folder, name=_folder_name(folder)), code_files(folder)
    there = places(variables, folders)
    here = snapshot(there.hub, meant, revision or "main")
    if here is None and (elsewhere := whole(there, meant, revision)):
        return open_checkpoint(elsewhere, name=meant, revision=_revision(elsewhere)), code_files(elsewhere)
    suggest = _Suggestions(name, (*aliases, *names(there), *known))
    require_hub_id(meant, suggest.sentence)
    from chatcli.models.download import survey as survey_hub

    try:
        if offline:
            raise ModelUnreachable(f"{meant} is not on this machine, and HF_HUB_OFFLINE forbids to download it.")
        with suggest.added():
            found = survey_hub(meant, here.name if here else revision or "main", there.hub, variables, progress)
    except ModelUnreachable:
        if here is None:
            raise
        return open_checkpoint(here, name=meant, revision=here.name), code_files(here)
    return open_checkpoint(found.folder, name=meant, revision=found.folder.name), found.code


def _meaning(name: str, aliases: Mapping[str, str]) -> tuple[str, Path | None]:
    """What a name stands for, and the folder that it means, if it means one."""
    meant = aliases.get(name, name).strip()
    if not meant:
        raise ModelNotFound("The model's name is empty: give a Hub id such as Qwen/Qwen3-0.6B, or a folder.")
    return meant, _as_folder(meant)


def require_hub_id(meant: str, hint: str = "") -> None:
    """Refuse a name that no repository can have; `hint` is put behind the sentence.

    Raises:
        ModelNotFound: it is none.
    """
    if len(meant) > 96 or not _HUB_ID.fullmatch(meant):
        raise ModelNotFound(
            f"{meant} is neither a folder here nor a name that the Hub could have "
            f"(ORGANISATION/MODEL).{hint}"
        )


def _as_folder(name: str) -> Path | None:
    """The folder a name means; None for a Hub id. A name that can only be a path must exist."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise ModelNotFound(f"{name} begins with the home of somebody who does not exist: check the path.") from None
    looks = name.startswith((".", "~", os.sep)) or (os.altsep and os.altsep != "/" and os.altsep in name)
    looks = looks or bool(path.drive) or (os.sep == "\\" and "\\" in name) or name.endswith(("/", os.sep))
    try:
        if path.is_dir():
            return path
        if path.is_file():
            raise ModelNotFound(f"{name} is a file: name the folder that holds config.json and the weights.")
    except (OSError, ValueError):  # too long, or holding a null character
        return None
    if looks:
        raise ModelNotFound(f"There is no folder {name}: check the path.")
    return None


def _folder_name(folder: Path) -> str:
    """What to call a folder's model: a snapshot in the Hub's cache by its id, any other by its last part."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.name


class _Suggestions:
    """Names close to a wrong one, from what exists for certain."""

    def __init__(self, name: str, candidates: Collection[str]) -> None:
        self._names = sorted(set(candidates))
        self._known = name in self._names
        lowered = {n.lower(): n for n in self._names}
        tails = {n.rpartition("/")[2].lower(): n for n in self._names}
        near = difflib.get_close_matches(name.lower(), lowered, n=2, cutoff=0.6)
        near_tails = difflib.get_close_matches(name.rpartition("/")[2].lower(), tails, n=2, cutoff=0.75)
        self._near = list(dict.fromkeys([*(lowered[n] for n in near), *(tails[n] for n in near_tails)]))[:3]

    @property
    def sentence(self) -> str:
        """A clause to end an error with; empty where nothing is near, or the name itself is a known one."""
        if self._known:
            return ""
        return f" Did you mean {' or '.join(self._near)}?" if self._near else ""

    @contextmanager
    def added(self) -> Generator[None]:
        """Offer near names at the end of what says that a model is not there."""
        try:
            yield
        except (ModelNotFound, ModelUnreachable) as error:
            raise type(error)(f"{error}{self.sentence}") from error

    def here(self, places: Places) -> str:
        """The models that could be used without the Hub."""
        usable = [name for name in names(places) if whole(places, name)]
        return f" ({', '.join(usable[:5])})" if usable else ""
