"""What lies on the disk: every place, every kind, whole or not, and how large it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cache_files import SMALL, put
from hub_server import safetensors

from chatcli.models import gguf_choice
from chatcli.models.cache import pull_note
from chatcli.models.extent import extent, last_used, size_of
from chatcli.models.inventory import Found, inventory
from chatcli.models.places import Places, begun, names, places, whole

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def here(tmp_path: Path) -> Places:
    return Places(tmp_path / "hub", tmp_path / "modelscope", (tmp_path / "own",))


def listed(here: Places) -> dict[str, Found]:
    complaints: list[str] = []
    found = {each.name: each for each in inventory(here, complaints.append)}
    assert [each for each in complaints if str(here.folders[0]) not in each] == []
    return found


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in SMALL.items():
        (folder / name).write_bytes(content)
    return folder


def test_every_place_is_listed_and_its_names_lead_there(here: Places, tmp_path: Path) -> None:
    snapshot = put(here.hub, "org/chat")
    scope = checkpoint(here.modelscope / "hub" / "models" / "org" / "scope-1___5")
    mine = checkpoint(tmp_path / "own" / "my-llama")
    deep = checkpoint(tmp_path / "own" / "team" / "their-llama")
    checkpoint(tmp_path / "own" / "too" / "deep" / "down")
    checkpoint(tmp_path / "own" / ".hidden")
    found = listed(here)
    assert {name: each.path for name, each in found.items()} == {
        "org/chat": snapshot,
        "org/scope-1.5": scope,
        "my-llama": mine,
        "team/their-llama": deep,
    }
    for name, each in found.items():
        assert whole(here, name) == each.path
        assert extent(each).whole
    assert sorted(names(here)) == sorted(found)


def test_a_folder_of_the_setting_may_be_a_model_itself(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path / "my-llama")
    here = places({"HF_HOME": str(tmp_path), "MODELSCOPE_CACHE": str(tmp_path)}, [str(mine)])
    assert listed(here).keys() == {"my-llama"}
    assert whole(here, "my-llama") == mine


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "team/sub/deep", "/etc"])
def test_a_name_does_not_lead_out_of_the_folders(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path / "secret")
    checkpoint(tmp_path / "own" / "team" / "sub" / "deep")
    assert begun(Places(tmp_path / "hub", tmp_path / "scope", (tmp_path / "own",)), name) is None


def test_a_model_that_hides_behind_another_is_named_by_its_path(here: Places) -> None:
    put(here.hub, "org/chat")
    hidden = checkpoint(here.modelscope / "models" / "org" / "chat")
    assert listed(here).keys() == {"org/chat", str(hidden)}


def test_revisions_are_one_model_and_what_they_share_counts_once(here: Places) -> None:
    put(here.hub, "org/chat", commit=OTHER, ref="v1")
    put(here.hub, "org/chat", {**SMALL, "config.json": SMALL["config.json"] + b" "})
    found = listed(here)["org/chat"]
    assert (found.commit, found.label) == (COMMIT, "")
    references = 2 * len(COMMIT)
    assert extent(found).bytes == sum(map(len, SMALL.values())) + len(SMALL["config.json"]) + 1 + references


def test_a_model_without_a_main_revision_says_which_it_has(here: Places) -> None:
    put(here.hub, "org/chat", commit=OTHER, ref="v1")
    assert (listed(here)["org/chat"].commit, listed(here)["org/chat"].label) == (OTHER, "v1")


def test_gguf_files_are_each_a_model(here: Places, tmp_path: Path) -> None:
    files = {"Chat-Q4_K_M.gguf": b"GGUF" * 5, "Chat-BF16-00001-of-00002.gguf": b"1", "README.md": b"no"}
    files["Chat-BF16-00002-of-00002.gguf"] = b"22"
    put(here.hub, "org/chat-GGUF", files)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine-q8_0.gguf").write_bytes(b"GGUF")
    found = listed(here)
    mine = str(tmp_path / "own" / "mine-q8_0.gguf")
    assert found.keys() == {"org/chat-GGUF:Q4_K_M", "org/chat-GGUF:BF16", mine}
    assert {each.precision for each in found.values()} == {"Q4_K_M", "BF16", "Q8_0"}
    assert extent(found["org/chat-GGUF:BF16"]).bytes == 3
    assert extent(found["org/chat-GGUF:Q4_K_M"]).bytes == 20


def test_a_download_under_way_says_how_much_is_here(here: Places) -> None:
    weights = SMALL["model.safetensors"]
    snapshot = put(here.hub, "org/chat", {n: c for n, c in SMALL.items() if n != "model.safetensors"}, ref="")
    owner = snapshot.parent.parent
    sizes = {name: len(content) for name, content in SMALL.items()}
    pull_note(owner).write_text(json.dumps({"commit": COMMIT, "files": sizes}))
    (owner / "blobs" / f"{'c' * 64}.incomplete").write_bytes(weights[:1000])
    found = extent(listed(here)["org/chat"])
    assert not found.whole
    assert found.wanted == sum(sizes.values())
    assert found.bytes == found.wanted - len(weights) + 1000


def test_a_download_of_which_no_file_is_whole_is_listed(here: Places) -> None:
    owner = here.hub / "models--org--chat"
    (owner / "blobs").mkdir(parents=True)
    (owner / "blobs" / f"{'c' * 64}.incomplete").write_bytes(b"x" * 10)
    assert listed(here) == {}, "of what others left there is nothing to say"
    pull_note(owner).write_text(json.dumps({"commit": COMMIT, "files": {"chat-Q4_K_M.gguf": 40}}))
    found = extent(listed(here)["org/chat"])
    assert (found.bytes, found.wanted, found.whole) == (10, 40, False)


def test_what_other_tools_left_half_done_is_told_by_the_index(here: Places) -> None:
    index = {"metadata": {"total_size": 9000}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = {n: c for n, c in SMALL.items() if n != "model.safetensors"}
    files |= {"model.safetensors.index.json": json.dumps(index).encode(), "model-1.safetensors": safetensors("a")}
    put(here.hub, "org/chat", files)
    found = extent(listed(here)["org/chat"])
    assert (found.whole, found.wanted) == (False, 9000)


def test_a_note_that_others_fulfilled_is_passed_over(here: Places) -> None:
    snapshot = put(here.hub, "org/chat")
    sizes = {name: len(content) for name, content in SMALL.items()}
    pull_note(snapshot.parent.parent).write_text(json.dumps({"commit": COMMIT, "files": sizes}))
    assert extent(listed(here)["org/chat"]).whole


@pytest.mark.parametrize("note", ["{", "[]", '{"files": 1}', '{"commit": "a", "files": {"x": "y"}}'])
def test_a_damaged_note_is_no_note(here: Places, note: str) -> None:
    snapshot = put(here.hub, "org/chat")
    pull_note(snapshot.parent.parent).write_text(note)
    assert extent(listed(here)["org/chat"]).whole


def test_broken_links_and_empty_and_foreign_folders_are_no_trouble(here: Places) -> None:
    snapshot = put(here.hub, "org/chat")
    (snapshot / "model.safetensors").resolve().unlink()
    (here.hub / "models--org--nothing" / "snapshots").mkdir(parents=True)
    (here.hub / "models--org--less").mkdir()
    (here.hub / "datasets--org--data").mkdir()
    (here.hub / "models--a-file").write_text("")
    (here.hub / "version.txt").write_text("1")
    found = {each.name: each for each in inventory(here, lambda _: None)}
    assert found.keys() == {"org/chat"}
    assert not extent(found["org/chat"]).whole
    assert last_used(str(snapshot / "model.safetensors")) == 0


def test_a_folder_that_cannot_be_read_is_told(here: Places) -> None:
    complaints: list[str] = []
    assert inventory(here, complaints.append) == []
    assert len(complaints) == 1 and "model_folders" in complaints[0] and "No such file" in complaints[0]


def test_blobs_in_a_store_that_repositories_share_count(here: Places) -> None:
    """huggingface_hub 2 keeps Xet files there; a size that passes over links was a few kilobytes."""
    snapshot = put(here.hub, "org/chat")
    blob = (snapshot / "model.safetensors").resolve()
    store = here.hub / "blobs" / "ab" / "xyz"
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert size_of(snapshot.parent.parent) > len(SMALL["model.safetensors"])


def test_a_stamp_changes_with_the_files(here: Places) -> None:
    snapshot = put(here.hub, "org/chat")
    before = listed(here)["org/chat"].stamp
    (snapshot / "model.safetensors").resolve().unlink()
    assert listed(here)["org/chat"].stamp != before


@pytest.mark.parametrize("size", ["Infinity", "NaN"])
def test_an_index_without_a_true_size_is_no_trouble(here: Places, size: str) -> None:
    index = b'{"metadata": {"total_size": %s}, "weight_map": {"a": "model-1.safetensors"}}' % size.encode()
    put(here.hub, "org/chat", {"config.json": b"{}", "model.safetensors.index.json": index})
    assert extent(listed(here)["org/chat"]).wanted == 0


def test_every_name_of_a_gguf_file_leads_to_it(here: Places) -> None:
    """What the list calls a file, `run` takes: another reading of its quantisation did not, nor did one of two."""
    files = {f"m-{kind}.gguf": kind.encode() for kind in ("UD-Q4_K_XL", "Q8_0", "i1-Q6_K", "Q6_K", "mmproj-F16")}
    files["mmproj-F16.gguf"] = files.pop("m-mmproj-F16.gguf")
    put(here.hub, "org/chat-GGUF", files)
    found = listed(here)
    assert len(found) == 4
    for name, each in found.items():
        assert gguf_choice.in_folder(each.path.parent, name.partition(":")[2]) == each.path


def test_a_split_file_that_lacks_a_part_is_not_whole(here: Places) -> None:
    put(here.hub, "org/chat-GGUF", {"m-Q8_0-00001-of-00002.gguf": b"1"})
    assert not extent(listed(here)["org/chat-GGUF:Q8_0"]).whole
