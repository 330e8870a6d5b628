"""A download that is cut, interrupted, told to wait or sent elsewhere, against a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hub_server import COMMIT, LocalHub, safetensors

from chatcli.errors import BrokenCheckpoint, ModelError, ModelGated, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models import transfer
from chatcli.models.cache import is_complete, pull_note
from chatcli.models.hub import resolve

SIZE = 3 << 20


@pytest.fixture
def variables(local_hub, tmp_path) -> dict[str, str]:
    local_hub.models["org/chat"]["model.safetensors"] = safetensors("w", size=SIZE)
    return {"HF_ENDPOINT": local_hub.url, "HF_HOME": str(tmp_path / "hf")}


@pytest.fixture
def repository(tmp_path) -> Path:
    return tmp_path / "hf" / "hub" / "models--org--chat"


def interrupted(hub: LocalHub, variables: dict[str, str], after: int) -> None:
    """A download that a person breaks off when so many bytes are here."""

    def report(progress: Progress) -> None:
        if progress.done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("org/chat", variables=variables, progress=report)
    hub.released.set()  # a process that ends would let go of its file: its thread must see that it may


def test_what_is_here_of_a_large_file_is_kept_and_not_fetched_again(local_hub, variables, repository) -> None:
    """huggingface_hub 2 throws away what it has when a process ends: an interrupted pull began anew."""
    local_hub.faults["GET /cdn/"] = ["stall"]
    interrupted(local_hub, variables, after=SIZE // 3)
    [part] = repository.glob("blobs/*.incomplete")
    begun = part.stat().st_size
    assert 0 < begun < SIZE
    assert json.loads(pull_note(repository).read_text())["files"]["model.safetensors"] > SIZE

    reports: list[Progress] = []
    found = resolve("org/chat", variables=variables, progress=reports.append)
    assert local_hub.ranges("model.safetensors")[-1] >= begun
    first = next(each for each in reports if each.stage == "downloading")
    assert first.done >= begun, "what is here already counts from the start, so that the time left is right"
    assert (found.folder / "model.safetensors").read_bytes() == local_hub.models["org/chat"]["model.safetensors"]
    assert not list(repository.glob("blobs/*.incomplete"))
    assert not pull_note(repository).exists()


def test_a_connection_that_breaks_is_taken_up_again(local_hub, variables) -> None:
    local_hub.faults["GET /cdn/"] = ["cut"]
    found = resolve("org/chat", variables=variables)
    assert (found.folder / "model.safetensors").read_bytes() == local_hub.models["org/chat"]["model.safetensors"]
    first, second = local_hub.ranges("model.safetensors")
    assert first == 0 and 0 < second < SIZE


def test_a_part_that_belongs_to_no_such_file_is_found_out(local_hub, variables, repository) -> None:
    local_hub.faults["GET /cdn/"] = ["stall"]
    interrupted(local_hub, variables, after=SIZE // 3)
    [part] = repository.glob("blobs/*.incomplete")
    part.write_bytes(b"\1" * part.stat().st_size)
    with pytest.raises(ModelUnreachable, match="damaged"):
        resolve("org/chat", variables=variables)
    assert is_complete(resolve("org/chat", variables=variables).folder)


def test_a_part_that_is_too_long_begins_anew(local_hub, variables, repository) -> None:
    local_hub.faults["GET /cdn/"] = ["stall"]
    interrupted(local_hub, variables, after=SIZE // 3)
    [part] = repository.glob("blobs/*.incomplete")
    part.write_bytes(bytes(SIZE * 2))
    found = resolve("org/chat", variables=variables)
    assert (found.folder / "model.safetensors").read_bytes() == local_hub.models["org/chat"]["model.safetensors"]


def test_every_file_under_way_is_reported_beside_the_whole(local_hub, variables) -> None:
    files = local_hub.models["org/chat"]
    del files["model.safetensors"]
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    files |= {name: safetensors(name, size=SIZE) for name in names}
    files["model.safetensors.index.json"] = json.dumps(
        {"weight_map": {str(i): n for i, n in enumerate(names)}}
    ).encode()
    reports: list[Progress] = []
    resolve("org/chat", variables=variables, progress=reports.append)
    parts = [{part.name: part for part in each.parts} for each in reports]
    assert any(set(names) <= each.keys() for each in parts), "both at a time"
    for each in parts:
        for part in each.values():
            assert 0 <= part.done < part.total == len(files[part.name])
    assert reports[-1].done == reports[-1].total
    assert reports[-1].parts == ()


def test_the_token_is_for_the_hub_alone(local_hub, variables) -> None:
    local_hub.token = "secret"
    resolve("org/chat", variables={**variables, "HF_TOKEN": "secret"})
    assert ("org", "Bearer secret") in local_hub.tokens
    assert {token for place, token in local_hub.tokens if place == "cdn"} == {""}


def test_a_token_that_is_not_accepted(local_hub, variables) -> None:
    local_hub.token = "secret"
    with pytest.raises(ModelGated, match=r"does not accept the token|HF_TOKEN"):
        resolve("org/chat", variables={**variables, "HF_TOKEN": "old"})


def test_a_hub_that_asks_to_wait_is_waited_for(local_hub, variables) -> None:
    local_hub.retry_after = "1"
    local_hub.faults["/api/models/"] = [429]
    reports: list[Progress] = []
    assert resolve("org/chat", variables=variables, progress=reports.append).revision == COMMIT
    assert any("wait for 1 seconds" in each.note for each in reports)


def test_a_long_wait_is_left_to_the_person(local_hub, variables) -> None:
    local_hub.retry_after = "600"
    local_hub.faults["/api/models/"] = 429
    with pytest.raises(ModelUnreachable, match=r"wait 10 minutes\."):
        resolve("org/chat", variables=variables)


def test_a_full_disk_is_said_to_be_full(local_hub, variables, monkeypatch) -> None:
    import errno

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ModelError, match="is full"):
        resolve("org/chat", variables=variables)


def test_weights_that_stand_still_are_given_up_and_kept(local_hub, variables, repository, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 1.0)
    local_hub.faults["GET /cdn/"] = "stall"
    with pytest.raises(ModelUnreachable, match="sent nothing for 1 seconds"):
        resolve("org/chat", variables=variables)
    assert list(repository.glob("blobs/*.incomplete"))


def test_a_new_commit_is_fetched_beside_the_old_one(local_hub, variables) -> None:
    first = resolve("org/chat", variables=variables)
    local_hub.commit = "f" * 40
    local_hub.models["org/chat"]["config.json"] += b"\n"
    local_hub.requests.clear()
    assert resolve("org/chat", variables=variables) == first, "nobody is asked for what is here"
    second = resolve("org/chat", variables=variables, renew=True)
    assert second.revision == "f" * 40
    assert "GET /cdn" not in "".join(local_hub.requests), "weights that did not change are not fetched again"
    assert first.folder.exists()


@pytest.mark.parametrize("name", ["additional_chat_templates/../../../../x.jinja", "../x.py", "/x.py", "a\\..\\x.py"])
def test_a_file_that_would_lie_outside_is_refused_before_anything_comes(local_hub, variables, tmp_path, name) -> None:
    local_hub.models["org/chat"][name] = b"evil"
    with pytest.raises(BrokenCheckpoint, match="outside the cache"):
        resolve("org/chat", variables=variables)
    assert local_hub.fetched() == set()


def test_a_commit_that_is_a_path_is_refused(local_hub, variables, tmp_path) -> None:
    """A mirror names the folder that the files go to."""
    local_hub.commit = "../../../../outside"
    with pytest.raises(BrokenCheckpoint, match="outside the cache"):
        resolve("org/chat", variables=variables)
    assert not list(tmp_path.rglob("outside"))


def test_a_download_waits_for_another_that_has_the_same_file(local_hub, variables, repository) -> None:
    """While another process fetched it, ours gave the Hub up as silent."""
    from filelock import FileLock

    digest = hashlib.sha256(local_hub.models["org/chat"]["model.safetensors"]).hexdigest()
    locks = repository.parent / ".locks" / repository.name
    locks.mkdir(parents=True)
    other = FileLock(locks / f"{digest}.lock", thread_local=False)
    other.acquire()
    reports: list[Progress] = []

    def report(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) > 3 and reports[-1] == reports[-2] == reports[-3]:  # signs of life, and nothing comes
            other.release()

    assert is_complete(resolve("org/chat", variables=variables, progress=report).folder)
