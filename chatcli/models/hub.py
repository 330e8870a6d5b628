"""From a name to a checkpoint on disk: an alias, a folder, what lies in the caches, at last the Hub.

What is on disk is used without asking anybody. All that can go wrong on the way becomes one sentence
here. It knows nothing of what is in the files beyond which ones a chat needs.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatcli.errors import BrokenCheckpoint, ModelNotFound, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models import gguf_choice, lora
from chatcli.models.cache import is_complete, revision_folder
from chatcli.models.checkpoint import Checkpoint, LoraFolder, open_checkpoint, require_chat_model
from chatcli.models.naming import HubName, hub_name
from chatcli.models.places import Places, begun, names, places, whole
from chatcli.models.remote_code import code_files
from chatcli.models.transfer import Report


def resolve(
    name: str,
    *,
    aliases: Mapping[str, str] | None = None,
    revision: str | None = None,
    offline: bool = False,
    renew: bool = False,
    progress: Report | None = None,
    variables: Mapping[str, str] | None = None,
    folders: Collection[str] = (),
    known: Collection[str] = (),
    check: Callable[[Checkpoint], None] = require_chat_model,
    for_adapter: str = "",
) -> Checkpoint:
    """The checkpoint that a person means by `name`.

    An alias is looked up first; a folder or a GGUF file is opened as it is; any other name is looked for in the caches
    and in the person's `folders`, and downloaded from the Hub where its files are not all there. `variables` (default:
    the process's own) say where the caches and the Hub are; `known` are further ids to offer when a name is mistyped.
    `check` may refuse a model by its small files, before gigabytes of weights are fetched. Where the name means an
    adapter, its base model is found, with the adapter on it; `for_adapter` is the one that this is the base of. With
    `renew` the Hub is asked in any case, for it may have a newer one.

    Raises:
        ModelNotFound: nothing has that name; nearest ones are offered.
        ModelUnreachable: it is not on disk, and the Hub may not or cannot be asked.
        ModelGated: the Hub wants a token or an accepted licence.
        BrokenCheckpoint: the files are there, but damaged.
    """
    variables = os.environ if variables is None else variables
    search = _Search(places(variables, folders), variables, progress or (lambda _: None), offline, renew, known)
    meant, path = _meaning(name, aliases or {}, search.here.folders)
    if path is None:
        path = search.find(name, meant, revision or "", check, aliases or ())
        called, at = meant, _revision(path)
    else:
        path, called, at = _gguf_within(path, search.progress), _folder_name(path), ""
    if not (path.is_dir() and lora.is_lora(path)):
        return open_checkpoint(path, name=called, revision=at)
    if for_adapter:  # each may be made for the other
        raise BrokenCheckpoint(
            f"{for_adapter} is made for {called}, which is an adapter, too: name the model, and both with --lora."
        )
    adapter = LoraFolder(called, path)
    wanted = lora.required_base(path, called)
    try:
        base = resolve(
            wanted,
            aliases=aliases,
            offline=offline,
            renew=renew,
            progress=progress,
            variables=variables,
            folders=folders,
            known=known,
            check=lambda checkpoint: check(lora.as_model(checkpoint, adapter, at)),
            for_adapter=called,
        )
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{called} is an adapter for {wanted}, and that is not found: name it where it is, and --lora {called}."
        ) from error
    return lora.as_model(base, adapter, at)


def find_lora(
    name: str, *, offline: bool, progress: Report, variables: Mapping[str, str], folders: Collection[str] = ()
) -> Path:
    """The folder of the adapter that a person means by `name`. Raises as `resolve` does."""
    meant, path = _meaning(name, {})
    if path is None:
        search = _Search(places(variables, folders), variables, progress, offline)
        path = search.find(name, meant, "", lambda _: None)
    if path.suffix.lower() == ".gguf":
        raise BrokenCheckpoint(f"{name} is an adapter of llama.cpp's; PEFT's are put on here ({lora.CONFIG}).")
    if not lora.is_lora(path):
        raise BrokenCheckpoint(f"{name} is no LoRA adapter: its folder holds no {lora.CONFIG}.")
    return path


@dataclass(frozen=True, slots=True)
class _Search:
    """Where a name is looked for, and who hears of it; `known` are ids to offer when it is mistyped."""

    here: Places
    variables: Mapping[str, str]
    progress: Report
    offline: bool
    renew: bool = False
    known: Collection[str] = ()

    def find(
        self,
        name: str,
        meant: str,
        revision: str,
        check: Callable[[Checkpoint], None],
        aliases: Collection[str] = (),
    ) -> Path:
        """What to open of a repository, from this machine where it is here wholly, else from the Hub."""
        wanted = hub_name(meant)
        if wanted and not self.renew and (found := _whole(self.here, wanted, revision)):
            return found
        suggest = _Suggestions(name, (*aliases, *names(self.here), *self.known))
        wanted = required_hub_name(meant, suggest.sentence)
        if self.offline:
            raise ModelUnreachable(
                f"{meant} is not on this machine, and HF_HUB_OFFLINE forbids to download it: "
                f"unset it, or name a model that is here{suggest.here(self.here)}."
            )
        from chatcli.models.download import download

        with suggest.added():
            return download(wanted, revision or "main", self.here.hub, self.variables, self.progress, check)


def _whole(here: Places, wanted: HubName, revision: str) -> Path | None:
    """The folder or the GGUF file on this machine, with all that a chat needs; or None."""
    if not (wanted.file or wanted.subfolder) and (found := whole(here, wanted.repository, revision)):
        return found
    folder = revision_folder(here.hub, wanted.repository, revision or "main")
    folder = folder / wanted.subfolder if folder else None
    if not folder or not folder.is_dir():
        return None
    if not wanted.file and (is_complete(folder) or lora.is_whole(folder)):
        return folder
    return gguf_choice.in_folder(folder, wanted.file)


def _gguf_within(path: Path, report: Report) -> Path:
    """The GGUF file of a folder that holds nothing else to run; any other path as it is."""
    found = gguf_choice.in_folder(path) if path.is_dir() and not lora.is_lora(path) else None
    if not found:
        return path
    others = [file for file in gguf_choice.models(each.name for each in path.glob("*.gguf")) if file != found.name]
    if others:
        report(
            Progress("loading", note=f"Of the GGUF files in {path}, {found.name} is taken; name another to take it.")
        )
    return found


def on_disk(
    name: str, variables: Mapping[str, str], folders: Collection[str] = (), *, for_adapter: bool = False
) -> Checkpoint | None:
    """What is here of the model that a name or a folder means, if only its config.json; nobody is asked for more.

    Raises:
        BrokenCheckpoint: config.json is damaged.
    """
    try:
        path = _begun(Path(name).expanduser(), name, places(variables, folders))
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a home that nobody has
        return None
    if path is None or not path.is_dir() or not lora.is_lora(path):
        return open_checkpoint(path, name, _revision(path)) if path else None
    base = "" if for_adapter else lora.base_of(path)
    found = on_disk(base, variables, folders, for_adapter=True) if base and base != name else None
    return lora.as_model(found, LoraFolder(name, path), _revision(path)) if found and lora.is_whole(path) else None


def _begun(path: Path, name: str, here: Places) -> Path | None:
    """What can be opened of a model that is here, perhaps without its weights."""
    path = _file_in(here.folders, name) or path
    if path.is_file():
        return path if path.suffix.lower() == ".gguf" else None
    if path.is_dir() and (found := gguf_choice.in_folder(path)):
        return found
    if (path / "config.json").is_file() or (path.is_dir() and lora.is_lora(path)):
        return path
    wanted = hub_name(name)
    if not wanted:
        return None
    if found := _whole(here, wanted, ""):
        return found
    return None if wanted.file or wanted.subfolder else begun(here, wanted.repository)


def _revision(path: Path) -> str:
    """What a cache calls the revision that a path lies in: a commit of the Hub; empty for a plain folder."""
    return next((each.name for each in (path, *path.parents) if each.parent.name == "snapshots"), "")


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
    there = places(variables, folders)
    meant, path = _meaning(name, aliases, there.folders)
    if path:
        return _surveyed(_gguf_within(path, progress), _folder_name(path), "")
    wanted = hub_name(meant)
    here = _whole(there, wanted, revision) if wanted else None
    if here and not here.is_relative_to(there.hub):
        return _surveyed(here, meant, _revision(here))
    suggest = _Suggestions(name, (*aliases, *names(there), *known))
    wanted = required_hub_name(meant, suggest.sentence)
    from chatcli.models.download import survey as survey_hub

    try:
        if offline:
            raise ModelUnreachable(f"{meant} is not on this machine, and HF_HUB_OFFLINE forbids to download it.")
        with suggest.added():
            commit = _revision(here) if here else revision or "main"
            found = survey_hub(wanted, commit, there.hub, variables, progress)
    except ModelUnreachable:
        if here is None:
            raise
        return _surveyed(here, meant, _revision(here))
    return open_checkpoint(found.folder, name=meant, revision=_revision(found.folder)), found.code


@contextmanager
def asking_for(
    name: str, variables: Mapping[str, str], *, offline: bool, known: Collection[str] = ()
) -> Generator[Path]:
    """Give the cache to what asks the Hub for a model; where there is none of that name, near ones are offered.

    Raises:
        ModelNotFound: the name is none that the Hub could have.
        ModelUnreachable: the Hub may not be asked.
    """
    _as_folder(name)
    here = places(variables)
    suggest = _Suggestions(name, (*names(here), *known))
    required_hub_name(name, suggest.sentence)
    if offline:
        raise ModelUnreachable(f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub for it.")
    with suggest.added():
        yield here.hub


def _surveyed(path: Path, name: str, revision: str) -> tuple[Checkpoint, tuple[str, ...]]:
    return open_checkpoint(path, name=name, revision=revision), code_files(path) if path.is_dir() else ()


def _meaning(name: str, aliases: Mapping[str, str], folders: Collection[Path] = ()) -> tuple[str, Path | None]:
    """What a name stands for, and the folder or GGUF file that it means, if any; it may lie in one of `folders`."""
    meant = aliases.get(name, name).strip()
    if not meant:
        raise ModelNotFound("The model's name is empty: give a Hub id such as Qwen/Qwen3-0.6B, or a folder.")
    return meant, _file_in(folders, meant) or _as_folder(meant)


def _file_in(folders: Collection[Path], name: str) -> Path | None:
    if not name.lower().endswith(".gguf") or ".." in name:
        return None
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def required_hub_name(meant: str, hint: str = "") -> HubName:
    """The parts of a name that a repository can have; `hint` is put behind the sentence that refuses another.

    Raises:
        ModelNotFound: it is none.
    """
    found = hub_name(meant)
    if not found:
        raise ModelNotFound(
            f"{meant} is neither a folder here nor a name that the Hub could have (ORGANISATION/MODEL).{hint}"
        )
    return found


def _as_folder(name: str) -> Path | None:
    """The folder or GGUF file a name means; None for a Hub id. A name that can only be a path must exist."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise ModelNotFound(f"{name} begins with the home of somebody who does not exist: check the path.") from None
    looks = name.startswith((".", "~", os.sep)) or (os.altsep and os.altsep != "/" and os.altsep in name)
    looks = looks or bool(path.drive) or (os.sep == "\\" and "\\" in name) or name.endswith(("/", os.sep))
    looks = looks or (name.lower().endswith(".gguf") and ":" not in name and name.count("/") != 1)
    try:
        if path.is_dir():
            return path
        if path.is_file():
            if path.suffix.lower() == ".gguf":
                return path
            raise ModelNotFound(f"{name} is a file: name the folder that holds config.json and the weights.")
    except (OSError, ValueError):  # too long, or holding a null character
        return None
    if looks:
        kind = "file" if name.lower().endswith(".gguf") else "folder"
        raise ModelNotFound(f"There is no {kind} {name}: check the path.")
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
