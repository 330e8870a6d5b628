"""ModelScope's cache in both its layouts, and a fetch through modelscope_hub from a server on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import CHAT_MODEL, safetensors
from modelscope_server import LocalModelScope, serving

from chatcli.errors import BrokenCheckpoint, ModelError, ModelNotFound
from chatcli.generation import Progress
from chatcli.models import modelscope, modelscope_download
from chatcli.models.hub import resolve

WANTED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


@pytest.fixture
def scope() -> Iterator[LocalModelScope]:
    with serving(LocalModelScope()) as server:
        yield server


@pytest.fixture
def variables(scope: LocalModelScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "modelscope-home"))  # its own files go there
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    return {
        "MODELSCOPE_ENDPOINT": scope.url,
        "MODELSCOPE_CACHE": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "hf"),
    }


def fetch(variables: dict[str, str], name: str = "org/chat-1.5", reports: list[Progress] | None = None) -> Path:
    tell = reports.append if reports is not None else lambda _: None
    return modelscope_download.download(name, "", variables, tell, lambda _: None)


def test_what_a_chat_needs_is_fetched_and_then_found_by_name(scope: LocalModelScope, variables: dict[str, str]) -> None:
    reports: list[Progress] = []
    folder = fetch(variables, reports=reports)
    assert {path for path, _ in scope.fetched} == WANTED
    assert (folder / "model.safetensors").read_bytes() == CHAT_MODEL["model.safetensors"]
    total = sum(len(CHAT_MODEL[name]) for name in WANTED)
    assert (reports[-1].done, reports[-1].total) == (total, total)
    found = resolve("org/chat-1.5", variables=variables, offline=True)
    assert (found.name, found.folder, found.revision) == ("org/chat-1.5", folder, "master")
    before = list(scope.fetched)
    assert fetch(variables) == folder
    assert scope.fetched == before


def test_a_download_that_was_cut_goes_on(scope: LocalModelScope, variables: dict[str, str]) -> None:
    scope.models["org/chat-1.5"]["model.safetensors"] = content = safetensors("w", size=3 << 20)
    scope.cut.add("model.safetensors")
    folder = fetch(variables)
    assert (folder / "model.safetensors").read_bytes() == content
    ranges = [wanted for path, wanted in scope.fetched if path == "model.safetensors"]
    assert len(ranges) > 1 and ranges[-1] not in ("", "bytes=0-")


def test_what_is_not_there(scope: LocalModelScope, variables: dict[str, str]) -> None:
    with pytest.raises(ModelNotFound, match="ModelScope has no model org/none"):
        fetch(variables, "org/none")
    scope.models["org/empty"] = {"README.md": b"nothing"}
    with pytest.raises(BrokenCheckpoint, match="no model in Hugging Face format"):
        fetch(variables, "org/empty")


def test_the_extra_is_named_where_it_is_missing(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(ModelError, match=r'pip install "chatcli\[modelscope\]"'):
        fetch(variables)


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in WANTED:
        (folder / name).write_bytes(CHAT_MODEL[name])
    return folder


@pytest.mark.parametrize(
    "place", ["models/org/chat-1___5", "hub/models/org/chat-1___5", "models/org--chat-1.5/snapshots/master"]
)
def test_every_layout_is_read(tmp_path: Path, place: str) -> None:
    folder = checkpoint(tmp_path / place)
    assert [(name, path) for name, _, path in modelscope.cached(tmp_path)] == [("org/chat-1.5", folder)]
    assert modelscope.snapshot(tmp_path, "org/chat-1.5") == folder
    assert modelscope.snapshot(tmp_path, "org/other") is None
    (folder / "model.safetensors").unlink()
    assert modelscope.snapshot(tmp_path, "org/chat-1.5") is None
    assert modelscope.begun(tmp_path, "org/chat-1.5") == folder


def test_the_links_of_the_old_layout_are_no_second_model(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "hub" / "models" / "org" / "chat-1___5")
    (folder.parent / "chat-1.5").symlink_to(folder)
    assert len(list(modelscope.cached(tmp_path))) == 1


@pytest.mark.parametrize(
    ("variables_", "expected"),
    [({"MODELSCOPE_CACHE": "/a"}, "/a"), ({}, str(Path("~/.cache/modelscope").expanduser()))],
)
def test_where_modelscopes_cache_is(variables_: dict[str, str], expected: str) -> None:
    assert modelscope.cache_folder(variables_) == Path(expected)
