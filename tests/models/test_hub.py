import json
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import until

from chatcli.errors import (
    BrokenCheckpoint,
    ChatcliError,
    ModelError,
    ModelGated,
    ModelNotFound,
    ModelUnreachable,
    NotAChatModel,
)
from chatcli.generation import Progress
from chatcli.models import transfer
from chatcli.models.cache import cache_folder, cached_names, needed, snapshot
from chatcli.models.hub import not_here, on_disk, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WANTED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


@pytest.fixture
def variables(local_hub, tmp_path) -> dict[str, str]:
    return {"HF_ENDPOINT": local_hub.url, "HF_HOME": str(tmp_path / "hf")}


@pytest.fixture
def local_model(tmp_path) -> Path:
    folder = tmp_path / "somewhere" / "my-llama"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def message(error: pytest.ExceptionInfo[ChatcliError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    assert text.endswith((".", "?"))
    return text


def test_downloads_what_a_chat_needs_and_no_more(local_hub, variables, tmp_path) -> None:
    events: list[Progress] = []
    checkpoint = resolve("org/chat", variables=variables, progress=events.append)
    assert local_hub.fetched() == WANTED
    assert (checkpoint.name, checkpoint.revision) == ("org/chat", COMMIT)
    assert checkpoint.folder == tmp_path / "hf" / "hub" / "models--org--chat" / "snapshots" / COMMIT
    assert {path.name for path in checkpoint.folder.iterdir()} == WANTED

    total = sum(len(local_hub.models["org/chat"][name]) for name in WANTED)
    bytes_done = [e.done for e in events if e.stage == "downloading"]
    assert bytes_done == sorted(bytes_done)
    assert bytes_done[-1] == total
    assert {(e.total, e.unit) for e in events if e.stage == "downloading"} == {(total, "B")}


def test_the_second_time_nobody_is_asked(local_hub, variables) -> None:
    first = resolve("org/chat", variables=variables)
    local_hub.requests.clear()
    assert resolve("org/chat", variables=variables) == first
    assert resolve("org/chat", variables=variables, offline=True) == first
    assert resolve("org/chat", variables=variables, revision=COMMIT) == first
    assert resolve("org/chat", variables=variables, revision=COMMIT[:8]) == first
    assert resolve("mine", aliases={"mine": "org/chat"}, variables=variables) == first
    assert local_hub.requests == []


def test_a_revision_of_its_own(local_hub, variables) -> None:
    assert resolve("org/chat", revision="v1", variables=variables).revision == COMMIT
    with pytest.raises(ModelUnreachable):
        resolve("org/chat", revision="main", variables=variables, offline=True)
    with pytest.raises(ModelNotFound, match="no revision v9"):
        resolve("org/chat", revision="v9", variables=variables)


def test_an_interrupted_download_goes_on(local_hub, variables) -> None:
    local_hub.faults["GET /org/chat/resolve/" + COMMIT + "/model.safetensors"] = 500
    with pytest.raises(ModelUnreachable, match="HTTP 500"):
        resolve("org/chat", variables=variables)
    with pytest.raises(ModelUnreachable):
        resolve("org/chat", variables=variables, offline=True)
    local_hub.faults.clear()
    local_hub.requests.clear()
    assert resolve("org/chat", variables=variables).revision == COMMIT
    assert local_hub.fetched() == {"model.safetensors"}


def test_shards_are_all_needed(local_hub, variables) -> None:
    files = local_hub.models["org/chat"]
    content = files.pop("model.safetensors")
    names = [f"model-0000{i}-of-00006.safetensors" for i in range(1, 7)]
    files |= {name: content + name.encode() for name in names}
    files["model.safetensors.index.json"] = json.dumps(
        {"weight_map": {str(i): n for i, n in enumerate(names)}}
    ).encode()
    checkpoint = resolve("org/chat", variables=variables)
    assert set(names) <= local_hub.fetched()
    (checkpoint.folder / names[3]).unlink()
    resolve("org/chat", variables=variables)
    assert (checkpoint.folder / names[3]).exists()


def test_a_folder_is_a_model(local_model, variables, monkeypatch) -> None:
    assert resolve(str(local_model), variables=variables).name == "my-llama"
    assert resolve("glm", aliases={"glm": str(local_model)}, variables=variables).folder == local_model
    monkeypatch.chdir(local_model.parent)
    assert resolve("my-llama", variables=variables).folder == Path("my-llama")
    assert resolve("./my-llama", variables=variables).name == "my-llama"
    assert resolve("my-llama/", variables=variables).name == "my-llama"
    monkeypatch.setenv("HOME", str(local_model.parent))
    if sys.platform != "win32":
        assert resolve("~/my-llama", variables=variables).name == "my-llama"


def test_a_snapshot_folder_keeps_its_models_name(local_hub, variables) -> None:
    folder = resolve("org/chat", variables=variables).folder
    assert resolve(str(folder), variables=variables).name == "org/chat"


@pytest.mark.parametrize("name", ["./nothing", "/nowhere/at/all", "~/nothing-here", "../x", "nothing/"])
def test_a_path_that_is_none_is_not_asked_for(local_hub, variables, name: str) -> None:
    with pytest.raises(ModelNotFound, match="There is no folder") as error:
        resolve(name, variables=variables)
    message(error)
    assert local_hub.requests == []


def test_a_file_is_no_folder(local_model, variables) -> None:
    with pytest.raises(ModelNotFound, match="is a file"):
        resolve(str(local_model / "config.json"), variables=variables)


@pytest.mark.parametrize(
    "name",
    [
        *("", "  ", "a//c", "a/b/../c", "a/b:", "a b", "-x/y", "org/x..y", "org/x--y", "x" * 200, "org/", "北京/模型"),
        "a\0b",
    ],
)
def test_names_that_no_model_can_have(local_hub, variables, name: str) -> None:
    with pytest.raises(ModelNotFound) as error:
        resolve(name, variables=variables)
    message(error)
    assert local_hub.requests == []


def test_a_wrong_name_offers_near_ones(local_hub, variables) -> None:
    resolve("org/chat", variables=variables)
    with pytest.raises(ModelNotFound) as error:
        resolve("org/chatt", variables=variables)
    assert len([request for request in local_hub.requests if "org/chatt" in request]) == 1, "it is not asked for again"
    assert "no model org/chatt" in message(error)
    assert message(error).endswith("Did you mean org/chat?")
    with pytest.raises(ModelNotFound, match=r"Did you mean Qwen/Qwen3-0\.6B\?"):
        resolve("qwen3-0.6b", variables=variables, known=("Qwen/Qwen3-0.6B", "google/gemma-3-1b-it"))
    with pytest.raises(ModelNotFound, match=r"Did you mean glm\?"):
        resolve("gml", variables=variables, aliases={"glm": "THUDM/chatglm-6b"})


def test_offline_names_what_is_here(local_hub, variables) -> None:
    resolve("org/chat", variables=variables)
    local_hub.requests.clear()
    with pytest.raises(ModelUnreachable) as error:
        resolve("org/other", variables=variables, offline=True)
    assert "HF_HUB_OFFLINE" in message(error)
    assert "(org/chat)" in message(error)
    assert local_hub.requests == []


def test_a_gated_model_says_how_to_get_in(local_hub, variables) -> None:
    local_hub.faults["/resolve/"] = "gated"
    with pytest.raises(ModelGated) as error:
        resolve("org/chat", variables=variables)
    assert f"{local_hub.url}/org/chat" in message(error)
    assert "HF_TOKEN" in message(error)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, ModelGated, "HF_TOKEN"),
        (404, ModelNotFound, "no model"),
        (429, ModelUnreachable, "too many"),
        (503, ModelUnreachable, "HTTP 503"),
    ],
)
@pytest.mark.parametrize("where", ["/api/models/"])
def test_what_the_hub_refuses(
    local_hub, variables, where: str, status: int, kind: type[ChatcliError], says: str
) -> None:
    local_hub.faults[where] = status
    with pytest.raises(kind, match=says) as error:
        resolve("org/chat", variables=variables)
    message(error)


def test_no_network(tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelUnreachable, match="cannot be reached") as error:
        resolve("org/chat", variables={"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path)})
    message(error)


def test_a_hub_that_never_answers(local_hub, variables, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 0.5)
    local_hub.faults["/api/models/"] = "silence"
    # Its own client and whoever waits for it lose their patience at the same time.
    with pytest.raises(ModelUnreachable, match=r"did not answer (for 0 seconds|in time)") as error:
        resolve("org/chat", variables=variables)
    message(error)


@pytest.mark.parametrize("fault", ["silence", "stall"])
def test_a_download_that_stands_still(local_hub, variables, monkeypatch, fault: str) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 1.0)
    local_hub.faults["GET /org/chat/resolve/" + COMMIT + "/model.safetensors"] = fault
    with pytest.raises(ModelUnreachable, match="sent nothing for 1 seconds") as error:
        resolve("org/chat", variables=variables)
    message(error)
    with pytest.raises(ModelUnreachable):
        resolve("org/chat", variables=variables, offline=True)


def test_a_model_that_cannot_chat_is_refused_before_its_weights(local_hub, variables) -> None:
    local_hub.models["org/chat"]["config.json"] = b'{"model_type": "bert", "architectures": ["BertForMaskedLM"]}'
    with pytest.raises(NotAChatModel, match="org/chat is an encoder"):
        resolve("org/chat", variables=variables)
    assert "model.safetensors" not in local_hub.fetched()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mmproj-a.gguf": b"GGUF"}, "no model in Hugging Face format"),
        ({"config.json": b"{}", "tf_model.h5": b"x", "flax_model.msgpack": b"x"}, "no model in Hugging Face format"),
        ({"README.md": b"hi"}, "no model in Hugging Face format"),
    ],
)
def test_a_repository_without_a_model(local_hub, variables, files: dict[str, bytes], says: str) -> None:
    local_hub.models["org/odd"] = files
    with pytest.raises(BrokenCheckpoint, match=says) as error:
        resolve("org/odd", variables=variables)
    message(error)
    assert local_hub.fetched() == set()


def test_a_disk_too_small_is_known_before_the_download(local_hub, variables, monkeypatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(ModelError, match=r"0\.0 GB free") as error:
        resolve("org/chat", variables=variables)
    message(error)
    assert "model.safetensors" not in local_hub.fetched()


@pytest.mark.skipif(sys.platform == "win32", reason="a file in a folder's place needs POSIX paths")
def test_a_cache_that_cannot_be_written(local_hub, variables, tmp_path) -> None:
    (tmp_path / "hf").write_text("a file where the cache should be")
    with pytest.raises(ModelError, match="cannot be written to") as error:
        resolve("org/chat", variables=variables)
    message(error)


def test_closing_the_wait_ends_the_transfer(local_hub, variables) -> None:
    """Ctrl-C in the middle: the caller leaves at once, and the weights are not fetched behind its back."""

    def interrupt(event: Progress) -> None:
        if event.stage == "downloading" and event.done:
            raise KeyboardInterrupt

    local_hub.faults["/tokenizer"] = "slow"
    with pytest.raises(KeyboardInterrupt):
        resolve("org/chat", variables=variables, progress=interrupt)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "download"])
    assert "model.safetensors" not in local_hub.fetched()


@pytest.mark.parametrize(
    ("variables_", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_where_the_cache_is(variables_: dict[str, str], expected: str) -> None:
    assert cache_folder(variables_) == Path(expected)


def test_an_empty_cache_holds_nothing(tmp_path) -> None:
    assert cached_names(tmp_path / "none") == []
    assert snapshot(tmp_path / "none", "org/chat") is None


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        (["model.safetensors", "model-00001-of-00001.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model-00002-of-00002.bin", "pytorch_model-00001-of-00002.bin"],
         ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]),
        (["consolidated.safetensors", "model-00001-of-00001.safetensors"], ["model-00001-of-00001.safetensors"]),
        (["tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx"], []),
    ],
)  # fmt: skip
def test_which_weights_are_needed(files: list[str], weights: list[str]) -> None:
    small, found = needed([*files, "config.json", "merges.txt", "qwen.tiktoken", "tokenization_x.py"])
    assert found == weights
    assert small == ["config.json", "merges.txt", "qwen.tiktoken"]


def test_named_templates_are_needed() -> None:
    small, _ = needed(
        ["config.json", "additional_chat_templates/rag.jinja", "additional_chat_templates/x.py", "y/z.jinja"]
    )
    assert small == ["additional_chat_templates/rag.jinja", "config.json"]


def test_what_is_on_disk_is_found_without_weights_and_without_the_hub(tmp_path) -> None:
    folder = tmp_path / "hub" / "models--org--chat" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    refs = folder.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    variables = {"HF_HOME": str(tmp_path)}
    assert on_disk("org/chat", variables) is None
    (folder / "config.json").write_text('{"model_type": "llama"}')
    found = on_disk("org/chat", variables)
    assert found and (found.name, found.revision, found.folder) == ("org/chat", COMMIT, folder)
    assert on_disk(str(folder), variables) == replace(found, name=str(folder))
    for nothing in ("org/other", "./nothing", "", "\0", "x" * 5000, "~nobody/x", "../../etc"):
        assert on_disk(nothing, variables) is None
    with pytest.raises(ModelNotFound, match=r"not on this machine.*Did you mean org/chat"):
        raise not_here("org/chatt", variables)
