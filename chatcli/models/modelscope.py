"""ModelScope's cache on disk, read as it lies.

The layouts are those of modelscope_hub and of the SDK before it, so what either downloaded is found here. It imports
neither and never opens a connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from chatcli.models.cache import is_complete

REVISION = "master"
"""What ModelScope calls the revision that holds where none is named."""


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Where ModelScope keeps its files: MODELSCOPE_CACHE, else the user's cache folder."""
    said = variables.get("MODELSCOPE_CACHE")
    return Path(os.path.expandvars(said)).expanduser() if said else Path("~/.cache/modelscope").expanduser()


def cached(cache: Path) -> Iterator[tuple[str, str, Path]]:
    """Every model in the cache: its name, its revision (empty in the old layout) and its folder."""
    for folder in _folders(cache / "models"):
        if "--" in folder.name:  # models/OWNER--NAME/snapshots/REVISION
            for snapshot in _folders(folder / "snapshots"):
                yield folder.name.replace("--", "/", 1), snapshot.name, snapshot
    for models in (cache / "models", cache / "hub" / "models"):  # OWNER/NAME, with ___ for a dot
        for owner in _folders(models):
            if "--" not in owner.name:
                yield from ((f"{owner.name}/{f.name.replace('___', '.')}", "", f) for f in _folders(owner))


def snapshot(cache: Path, name: str, revision: str = "") -> Path | None:
    """The folder with all files of a model, or None where any that is needed is not here."""
    for folder in _places(cache, name, revision):
        if is_complete(folder):
            return folder
    return None


def begun(cache: Path, name: str, revision: str = "") -> Path | None:
    """The folder with a model's config.json, whether its weights are here or not."""
    return next((folder for folder in _places(cache, name, revision) if (folder / "config.json").is_file()), None)


def _places(cache: Path, name: str, revision: str) -> Iterator[Path]:
    owner, slash, model = name.partition("/")
    if not slash or ".." in name:
        return
    yield cache / "models" / f"{owner}--{model}" / "snapshots" / (revision or REVISION)
    if revision in ("", REVISION):
        yield cache / "models" / owner / model.replace(".", "___")
        yield cache / "hub" / "models" / owner / model.replace(".", "___")


def _folders(place: Path) -> list[Path]:
    """The folders in a place, none where it is not there; the old SDK's links with dots stand for others."""
    try:
        return sorted(f for f in place.iterdir() if not f.name.startswith(".") and f.is_dir() and not f.is_symlink())
    except OSError:
        return []
