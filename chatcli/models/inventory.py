"""The models on this machine, one by one: the Hub's cache, ModelScope's, a person's folders, GGUF files.

Only folders are listed here, and by the system's own calls, so that hundreds of models take no time; what is in their
files, others read. A `stamp` tells whether anything changed since they did.
"""

# A Path costs more than what is asked of it.
# ruff: noqa: PTH116, PTH123, PTH208

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from chatcli.errors import BrokenCheckpoint
from chatcli.models import gguf_choice, modelscope
from chatcli.models.cache import pull_note
from chatcli.models.checkpoint import read_json
from chatcli.models.places import DEEP, Places, children

Source: TypeAlias = Literal["hub", "modelscope", "folder"]


@dataclass(frozen=True, slots=True)
class Found:
    """One model: what `chatcli run` takes for it, where it is and what the folders tell.

    `path` is the folder of the checkpoint, or a GGUF file (its first part); `owner` the folder of all its revisions
    and what else belongs to it, in which `rm` counts; `commit` is empty for what has no revisions. `label` is the
    branch or tag of a model that is not there as its main revision.
    """

    name: str
    source: Source
    path: Path
    owner: Path
    stamp: tuple[int, ...]
    commit: str = ""
    label: str = ""

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file rather than a folder."""
        return self.path.suffix == ".gguf"

    @property
    def precision(self) -> str:
        """What the name of a GGUF file says of its precision, such as Q4_K_M."""
        return gguf_choice.quantisation(self.path.name) if self.is_gguf else ""


def inventory(places: Places, warn: Callable[[str], None]) -> list[Found]:
    """All models in `places`, those that hide behind another of their name by their path; `warn` of unreadable folders.

    The order means nothing.
    """
    seen: set[str] = set()
    listed = []
    for each in (
        *_of_the_hub(places.hub, warn),
        *_of_modelscope(places.modelscope),
        *_of_folders(places.folders, warn),
    ):
        hidden = each.name in seen
        seen.add(each.name)
        listed.append(replace(each, name=str(each.path)) if hidden else each)
    return listed


def _of_the_hub(cache: Path, warn: Callable[[str], None]) -> Iterator[Found]:
    try:
        names = [name for name in os.listdir(cache) if name.startswith("models--")]
    except FileNotFoundError:
        return
    except OSError as error:
        warn(f"{cache} cannot be read ({error.strerror}).")
        return
    for name in names:
        called = name.removeprefix("models--").replace("--", "/")
        try:
            yield from _repository(f"{cache}/{name}", called)
        except FileNotFoundError:
            yield from _just_begun(cache / name, called)
        except OSError as error:
            warn(f"{cache / name} cannot be read ({error.strerror}).")


def _repository(folder: str, name: str) -> Iterator[Found]:
    """A repository's revision that counts, main's or else the one that came last; its GGUF files each for itself."""
    commit, label = _current(folder)
    path = f"{folder}/snapshots/{commit}"
    files = os.listdir(path)
    stamp = (_changed(path), _changed(f"{folder}/blobs"))
    quantised = gguf_choice.models(files)
    if not quantised or any(each.endswith((".safetensors", ".bin")) for each in files):
        yield Found(name, "hub", Path(path), Path(folder), stamp, commit, label)
    kinds = Counter(map(gguf_choice.quantisation, quantised))
    for file in quantised:
        kind = gguf_choice.quantisation(file)
        called = f"{name}:{kind if kind and kinds[kind] == 1 else file}"
        yield Found(called, "hub", Path(path, file), Path(folder), stamp, commit, label)


def _just_begun(folder: Path, name: str) -> Iterator[Found]:
    """A repository of which no file is whole yet, where a download of ours has begun."""
    with suppress(BrokenCheckpoint):
        if (note := pull_note(folder)).is_file() and isinstance(commit := read_json(note).get("commit"), str):
            yield Found(name, "hub", folder / "snapshots" / commit, folder, (), commit)


def _current(folder: str) -> tuple[str, str]:
    """The commit of a repository that stands for it, and the branch or tag where that is not main."""
    commits = os.listdir(f"{folder}/snapshots")
    main = _reference(f"{folder}/refs/main")
    if main in commits:
        return main, ""
    if not commits:
        raise FileNotFoundError(folder)
    commit = max(commits, key=lambda each: _changed(f"{folder}/snapshots/{each}"))
    return commit, next((r.name for r in Path(folder, "refs").glob("*") if _reference(str(r)) == commit), "")


def _reference(file: str) -> str:
    """The commit that a branch or a tag stands for, empty where it does not exist."""
    try:
        with open(file, "rb") as opened:
            return opened.read(100).decode("ascii").strip()
    except (OSError, ValueError):
        return ""


def _of_modelscope(cache: Path) -> Iterator[Found]:
    for name, revision, folder in modelscope.cached(cache):
        owner = folder.parent.parent if revision else folder
        label = "" if revision == modelscope.REVISION else revision
        yield Found(name, "modelscope", folder, owner, (_changed(folder),), revision, label)


def _of_folders(folders: tuple[Path, ...], warn: Callable[[str], None]) -> Iterator[Found]:
    for folder in folders:
        try:
            os.listdir(folder)
        except OSError as error:
            warn(f"{folder}, which is one of model_folders, cannot be read ({error.strerror}).")
            continue
        if (folder / "config.json").is_file():
            yield _own(folder.name, folder)
        else:
            yield from _in_folder(folder, folder, DEEP)


def _in_folder(folder: Path, top: Path, deep: int) -> Iterator[Found]:
    for name in gguf_choice.models(each.name for each in folder.glob("*.gguf")):
        file = folder / name
        yield Found(str(file), "folder", file, file, (_changed(file),))
    for child in children(folder) if deep else ():
        if (child / "config.json").is_file():
            yield _own(child.relative_to(top).as_posix(), child)
        else:
            yield from _in_folder(child, top, deep - 1)


def _own(name: str, folder: Path) -> Found:
    """A person's checkpoint, whose files may be written over where they lie."""
    return Found(name, "folder", folder, folder, (_changed(folder), _changed(folder / "config.json")))


def _changed(path: Path | str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
