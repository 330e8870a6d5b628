"""What `rm` would take away and does: only what is in a cache, shared content while somebody needs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cache_files import SMALL, put

from chatcli.errors import ModelError, ModelNotFound, UsageError
from chatcli.models.places import Places
from chatcli.models.removal import removals

COMMIT, OTHER = "a" * 40, "b" * 40
WEIGHTS = SMALL["model.safetensors"]


@pytest.fixture
def here(tmp_path: Path) -> Places:
    return Places(tmp_path / "hub", tmp_path / "modelscope", (tmp_path / "own",))


def take_away(here: Places, name: str, revision: str = "") -> int:
    found = removals(here, name, revision)
    for each in found:
        each.carry_out()
    return sum(each.bytes for each in found)


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_all_of_a_model_goes_and_the_number_is_what_the_disk_gets_back(here: Places) -> None:
    snapshot = put(here.hub, "org/chat", commit=OTHER, ref="v1")
    put(here.hub, "org/chat", {**SMALL, "config.json": SMALL["config.json"] + b" "})
    put(here.hub, "org/other")
    owner = snapshot.parent.parent
    (owner / "blobs" / f"{'c' * 64}.incomplete").write_bytes(b"x" * 1000)
    (here.hub / ".locks" / owner.name).mkdir(parents=True)
    before = disk(here.hub)
    freed = take_away(here, "org/chat")
    assert not owner.exists()
    assert not (here.hub / ".locks" / owner.name).exists()
    assert (here.hub / "models--org--other" / "snapshots" / COMMIT / "config.json").is_file()
    references = 2 * len(COMMIT)  # which huggingface_hub does not count
    assert before - disk(here.hub) == freed + references


def test_one_revision_leaves_what_another_needs(here: Places) -> None:
    put(here.hub, "org/chat", commit=OTHER, ref="v1")
    kept = put(here.hub, "org/chat", {**SMALL, "config.json": SMALL["config.json"] + b" "})
    assert take_away(here, "org/chat", "v1") == len(SMALL["config.json"])
    assert (kept / "model.safetensors").read_bytes() == WEIGHTS
    assert not (kept.parent / OTHER).exists()
    with pytest.raises(ModelNotFound, match="no revision v1 of org/chat"):
        removals(here, "org/chat", "v1")
    assert take_away(here, "org/chat", COMMIT[:8]) > len(WEIGHTS)


def test_nothing_goes_before_it_is_carried_out(here: Places) -> None:
    snapshot = put(here.hub, "org/chat")
    removals(here, "org/chat")
    assert (snapshot / "model.safetensors").read_bytes() == WEIGHTS


def test_what_huggingface_hub_cannot_make_sense_of_goes_as_a_folder(here: Places) -> None:
    """A broken link makes huggingface_hub leave the whole repository out of its scan."""
    snapshot = put(here.hub, "org/chat")
    (snapshot / "config.json").resolve().unlink()
    assert take_away(here, "org/chat") >= len(WEIGHTS)
    assert not snapshot.parent.parent.exists()


def test_a_download_that_had_just_begun_goes_too(here: Places) -> None:
    blobs = here.hub / "models--org--chat" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'c' * 64}.incomplete").write_bytes(b"x" * 1000)
    assert take_away(here, "org/chat") == 1000
    assert not blobs.parent.exists()


def test_modelscopes_copy_goes(here: Places) -> None:
    folder = here.modelscope / "models" / "org--chat" / "snapshots" / "master"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    assert take_away(here, "org/chat") == 2
    assert not folder.exists()


def test_a_persons_folder_is_never_touched(here: Places, tmp_path: Path) -> None:
    mine = tmp_path / "own" / "mine"
    mine.mkdir(parents=True)
    (mine / "config.json").write_text("{}")
    for name in ("mine", str(mine)):
        with pytest.raises(UsageError, match="a folder of yours"):
            removals(here, name)
    assert (mine / "config.json").exists()


def test_what_a_link_puts_into_the_cache_is_not_touched(here: Places, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "org/chat").parent.parent
    here.hub.mkdir()
    (here.hub / elsewhere.name).symlink_to(os.path.relpath(elsewhere, here.hub))
    with pytest.raises(ModelError, match="is a link"):
        removals(here, "org/chat")
    assert disk(elsewhere) > len(WEIGHTS)


@pytest.mark.parametrize("name", ["org/none", "../hub/models--org--chat", "..", ".", "", "a/b/c", "\0"])
def test_a_name_of_nothing(here: Places, name: str) -> None:
    snapshot = put(here.hub, "org/chat")
    with pytest.raises((ModelNotFound, UsageError)):
        removals(here, name)
    assert (snapshot / "config.json").is_file()


def test_a_revisions_link_out_of_the_cache_goes_without_what_it_leads_to(here: Places, tmp_path: Path) -> None:
    """huggingface_hub removes whatever file the links of a revision lead to, wherever that is."""
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"mine")
    put(here.hub, "org/chat")
    old = put(here.hub, "org/chat", {"config.json": b"{}"}, commit=OTHER, ref="v1")
    (old / "model.safetensors").symlink_to(own)
    take_away(here, "org/chat", "v1")
    assert not old.exists()
    assert own.read_bytes() == b"mine"


def test_a_link_to_another_model_of_the_cache_takes_nothing_of_that(here: Places) -> None:
    kept = put(here.hub, "org/chat")
    (here.hub / "models--org--link").symlink_to(kept.parent.parent, target_is_directory=True)
    with pytest.raises(ModelError, match="is a link"):
        removals(here, "org/link")
    assert (kept / "model.safetensors").read_bytes() == WEIGHTS
