"""Taking a model off the disk: what would go and how much that frees, told before anything is touched.

Nothing outside the two caches is ever removed. huggingface_hub knows which files of its cache are shared between
revisions and between repositories; what it cannot make sense of goes as the folder that it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from chatcli.errors import ModelError, ModelNotFound, UsageError
from chatcli.models import modelscope
from chatcli.models.cache import repository_folder
from chatcli.models.extent import size_of
from chatcli.models.places import Places, own_folders


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing that would go: its `folder`, the bytes that this frees, and what does it."""

    folder: Path
    bytes: int
    carry_out: Callable[[], None]


def removals(places: Places, name: str, revision: str = "") -> list[Removal]:
    """Everything of a model in the caches, or of one revision of it.

    Raises:
        UsageError: it is a folder of the person's own.
        ModelNotFound: there is nothing of it, or not that revision.
        ModelError: it lies outside the cache, by a link.
    """
    found = [*_of_the_hub(places.hub, name, revision), *_of_modelscope(places.modelscope, name, revision)]
    if found:
        return found
    own = dict(own_folders(places)).get(name) or (Path(name) if Path(name).is_dir() else None)
    if own:
        raise UsageError(f"{own} is a folder of yours and no download: remove it yourself, if you mean it.")
    which = f" revision {revision} of" if revision else ""
    raise ModelNotFound(f"There is no{which} {name} in the caches: `chatcli models` lists what there is.")


def _of_the_hub(cache: Path, name: str, revision: str) -> list[Removal]:
    folder = repository_folder(cache, name)
    if not folder.is_dir():
        return []
    _require_inside(cache, folder)
    from huggingface_hub import scan_cache_dir

    info = scan_cache_dir(cache)
    scanned = next((repo for repo in info.repos if repo.repo_path == folder), None)
    # Of this repository alone: a copy that was made on the Hub has the same commits.
    info = replace(info, repos=frozenset([scanned] if scanned else []))
    if revision:
        commits = [
            each.commit_hash
            for each in (scanned.revisions if scanned else ())
            if revision in each.refs or (len(revision) >= 7 and each.commit_hash.startswith(revision))
        ]
        if len(commits) != 1:
            return []
        plan = info.delete_revisions(*commits)
        # A link may lead to a store that others share, or anywhere: the link goes, and not what it leads to.
        plan = replace(plan, blobs=frozenset(each for each in plan.blobs if each.parent == folder.resolve() / "blobs"))
        return [Removal(folder / "snapshots" / commits[0], plan.expected_freed_size, plan.execute)]
    if not scanned or not scanned.revisions:
        return [Removal(folder, size_of(folder), lambda: _remove(cache, folder))]
    plan = info.delete_revisions(*(each.commit_hash for each in scanned.revisions))
    begun = sum(each.stat().st_size for each in folder.glob("blobs/*.incomplete"))

    def carry_out() -> None:
        plan.execute()
        _remove(cache, folder)  # what was begun, and the locks

    return [Removal(folder, plan.expected_freed_size + begun, carry_out)]


def _remove(cache: Path, folder: Path) -> None:
    for each in (folder, cache / ".locks" / folder.name):
        if each.exists():
            shutil.rmtree(each)


def _of_modelscope(cache: Path, name: str, revision: str) -> list[Removal]:
    found = []
    for each, said, folder in modelscope.cached(cache):
        if each == name and revision in ("", said):
            _require_inside(cache, folder)
            found.append(Removal(folder, size_of(folder), partial(shutil.rmtree, folder)))
    return found


def _require_inside(cache: Path, folder: Path) -> None:
    """Refuse what is reached by a link within the cache. Raises ModelError."""
    if folder.resolve() != cache.resolve() / folder.relative_to(cache):
        raise ModelError(f"{folder} is a link, which leads to {folder.resolve()}: remove it yourself, if you mean it.")
