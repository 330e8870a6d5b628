"""Where models lie on this machine: the Hub's cache, ModelScope's, the folders that a person named.

A name is looked for in that order. It opens no file beyond what tells whether a model is whole, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chatcli.models import cache, modelscope

DEEP = 2
"""How far below one of the person's folders models are looked for: OWNER/NAME."""


@dataclass(frozen=True, slots=True)
class Places:
    """The two caches, and the folders of the setting `model_folders`."""

    hub: Path
    modelscope: Path
    folders: tuple[Path, ...] = ()


def places(variables: Mapping[str, str], folders: Collection[str] = ()) -> Places:
    """What the `variables` of the process and the setting say, `~` and all."""
    return Places(cache.cache_folder(variables), modelscope.cache_folder(variables), tuple(map(_home, folders)))


def _home(folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # the home of somebody who does not exist
        return Path(folder)


def whole(places: Places, name: str, revision: str = "") -> Path | None:
    """The folder of a model with all that a chat needs, or None."""
    found = cache.snapshot(places.hub, name, revision or "main") or modelscope.snapshot(
        places.modelscope, name, revision
    )
    return found or next((folder for folder in _own(places, name) if cache.is_complete(folder)), None)


def begun(places: Places, name: str, revision: str = "") -> Path | None:
    """The folder of a model with its config.json, whether its weights are here or not; or None."""
    found = cache.begun(places.hub, name, revision or "main") or modelscope.begun(places.modelscope, name, revision)
    return found or next(_own(places, name), None)


def _own(places: Places, name: str) -> Iterator[Path]:
    """The folders of that name in the person's own, or one of those itself."""
    if ".." in name or len(Path(name).parts) > DEEP:
        return
    for folder in places.folders:
        for candidate in (folder / name, folder if folder.name == name else None):
            if candidate and (candidate / "config.json").is_file():
                yield candidate


def names(places: Places) -> list[str]:
    """What every model here is called, whole or not."""
    own = (name for name, _ in own_folders(places))
    found = (*cache.cached_names(places.hub), *(name for name, _, _ in modelscope.cached(places.modelscope)), *own)
    return list(dict.fromkeys(found))


def own_folders(places: Places) -> Iterator[tuple[str, Path]]:
    """The checkpoints in the person's folders, each with the name that finds it."""
    for folder in places.folders:
        if (folder / "config.json").is_file():
            yield folder.name, folder
        else:
            yield from ((f.relative_to(folder).as_posix(), f) for f in _below(folder, DEEP))


def _below(folder: Path, deep: int) -> Iterator[Path]:
    for child in children(folder):
        if (child / "config.json").is_file():
            yield child
        elif deep > 1:
            yield from _below(child, deep - 1)


def children(folder: Path) -> list[Path]:
    """The folders in a folder, but for hidden ones; none where it cannot be read."""
    try:
        return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.is_dir())
    except OSError:
        return []
