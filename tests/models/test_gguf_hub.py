"""GGUF files, folders and adapters of repositories: which files are fetched, and found again."""

import json
from pathlib import Path

import pytest
from test_gguf_file import GOOD

from chatcli.errors import BrokenCheckpoint, ModelNotFound, ModelUnreachable
from chatcli.generation import Progress
from chatcli.models.hub import find_lora, on_disk, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHECKPOINT = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


@pytest.fixture
def variables(local_hub, tmp_path) -> dict[str, str]:
    return {"HF_ENDPOINT": local_hub.url, "HF_HOME": str(tmp_path / "hf")}


@pytest.fixture
def model(make_checkpoint, tmp_path) -> bytes:
    from gguf_files import write_gguf

    return write_gguf(tmp_path / "model.gguf", make_checkpoint(), "llama", "Q8_0").read_bytes()


@pytest.fixture
def quantised(local_hub, model) -> dict[str, bytes]:
    kinds = {kind: model + kind.encode() for kind in ("Q2_K", "Q4_K_M", "Q8_0")}
    files = {f"m-{kind}.gguf": content for kind, content in kinds.items()} | {"README.md": b"", "config.json": b"{}"}
    local_hub.models["org/chat-GGUF"] = files
    return files


def test_the_usual_file_is_fetched_alone_and_that_is_said(local_hub, variables, quantised) -> None:
    events: list[Progress] = []
    found = resolve("org/chat-GGUF", variables=variables, progress=events.append)
    assert local_hub.fetched() == {"m-Q4_K_M.gguf"}
    assert found.gguf
    assert found.gguf.files[0].read_bytes() == quantised["m-Q4_K_M.gguf"]
    assert (found.name, found.revision, found.model_type) == ("org/chat-GGUF", COMMIT, "llama")
    assert [each.note for each in events if each.note] == [
        "Of its GGUF files (Q2_K, Q4_K_M, Q8_0) Q4_K_M is taken; org/chat-GGUF:NAME takes another."
    ]
    local_hub.requests.clear()
    assert resolve("org/chat-GGUF", variables=variables, offline=True) == found
    assert on_disk("org/chat-GGUF", variables) == found
    assert local_hub.requests == []


def test_a_quantisation_may_be_named_in_any_case(local_hub, variables, quantised) -> None:
    found = resolve("org/chat-GGUF:q8_0", variables=variables)
    assert local_hub.fetched() == {"m-Q8_0.gguf"}
    assert found.name == "org/chat-GGUF:q8_0"
    assert resolve("org/chat-GGUF:m-Q8_0.gguf", variables=variables, offline=True).gguf == found.gguf
    resolve("org/chat-GGUF:Q2_K", variables=variables)
    assert local_hub.fetched() == {"m-Q8_0.gguf", "m-Q2_K.gguf"}
    with pytest.raises(ModelUnreachable, match="org/chat-GGUF:Q4_K_M is not on this machine"):
        resolve("org/chat-GGUF:Q4_K_M", variables=variables, offline=True)


def test_a_wrong_quantisation_lists_those_there_are(local_hub, variables, quantised) -> None:
    with pytest.raises(ModelNotFound, match=r"holds no GGUF file Q5_0; there are Q2_K, Q4_K_M, Q8_0\."):
        resolve("org/chat-GGUF:Q5_0", variables=variables)
    assert local_hub.fetched() == set()


def test_safetensors_come_before_gguf_unless_one_is_named(local_hub, variables, model) -> None:
    local_hub.models["org/chat"]["m-Q8_0.gguf"] = model
    assert resolve("org/chat", variables=variables).gguf is None
    assert resolve("org/chat:Q8_0", variables=variables).gguf


def test_all_parts_of_a_split_file_are_fetched(local_hub, variables) -> None:
    parts = {f"Q8_0/m-Q8_0-0000{number}-of-00002.gguf": GOOD + bytes([number]) for number in (1, 2)}
    local_hub.models["org/big"] = {**parts, "m-Q2_K.gguf": GOOD}
    with pytest.raises(BrokenCheckpoint, match="does not say"):  # the file of this test is no model
        resolve("org/big:Q8_0", variables=variables)
    assert local_hub.fetched() == {name.rpartition("/")[2] for name in parts}
    del local_hub.models["org/big"]["Q8_0/m-Q8_0-00002-of-00002.gguf"]
    with pytest.raises(BrokenCheckpoint, match="lacks a part"):
        resolve("org/big:Q8_0", variables={**variables, "HF_HOME": variables["HF_HOME"] + "-other"})


def test_a_family_that_gguf_cannot_bring_is_refused_before_its_weights(local_hub, variables, quantised) -> None:
    local_hub.family = "rwkv7"
    with pytest.raises(BrokenCheckpoint, match="org/chat-GGUF holds a model of the family rwkv7"):
        resolve("org/chat-GGUF", variables=variables)
    assert local_hub.fetched() == set()


def test_a_folder_of_a_repository(local_hub, variables) -> None:
    files = local_hub.models["org/chat"]
    local_hub.models["org/many"] = {f"small/en/{name}": files[name] for name in CHECKPOINT} | files
    found = resolve("org/many/small/en", variables=variables)
    assert found.folder.relative_to(variables["HF_HOME"]).parts[-3:] == (COMMIT, "small", "en")
    assert {path.name for path in found.folder.iterdir()} == set(CHECKPOINT)
    assert not (found.folder.parents[1] / "config.json").exists()
    assert (found.name, found.revision) == ("org/many/small/en", COMMIT)
    local_hub.requests.clear()
    assert resolve("org/many/small/en", variables=variables, offline=True) == found
    assert local_hub.requests == []
    with pytest.raises(ModelNotFound, match="org/many has no folder large; there are original, small/en"):
        resolve("org/many/large", variables=variables)


@pytest.fixture
def adapter(local_hub) -> dict[str, bytes]:
    said = {"peft_type": "LORA", "base_model_name_or_path": "org/chat", "r": 2}
    files = {"adapter_config.json": json.dumps(said).encode(), "adapter_model.safetensors": b"x", "train.py": b"no"}
    local_hub.models["org/style"] = files
    return files


def test_an_adapter_brings_its_base_model(local_hub, variables, adapter) -> None:
    found = resolve("org/style", variables=variables)
    assert found.folder.parts[-3] == "models--org--chat"
    assert (found.name, found.base, found.known_as) == ("org/style", "org/chat", "org/chat")
    assert [(each.name, each.scale) for each in found.loras] == [("org/style", 1.0)]
    assert {path.name for path in found.loras[0].folder.iterdir()} == adapter.keys() - {"train.py"}
    assert resolve("org/style", variables=variables, offline=True) == found
    assert on_disk("org/style", variables) == found


def test_an_adapter_whose_base_model_is_elsewhere(tmp_path: Path, variables) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/training/base"}')
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ModelNotFound, match="is an adapter for /training/base, and that is not found"):
        resolve(str(tmp_path), variables=variables)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(BrokenCheckpoint, match="does not say what model it is for"):
        resolve(str(tmp_path), variables=variables)


def test_an_adapters_own_tokenizer_counts_where_it_has_a_template(local_hub, variables, adapter) -> None:
    assert resolve("org/style", variables=variables).texts is None
    adapter |= {"tokenizer.json": b"{}", "tokenizer_config.json": b'{"chat_template": "x"}'}
    local_hub.models["org/style-2"] = adapter
    found = resolve("org/style-2", variables=variables)
    assert found.texts == found.loras[0].folder


def test_what_is_no_adapter(local_hub, variables, tmp_path, model) -> None:
    def look(name: str) -> None:
        find_lora(name, offline=False, progress=lambda progress: None, variables=variables)

    with pytest.raises(BrokenCheckpoint, match=r"org/chat is no LoRA adapter"):
        look("org/chat")
    with pytest.raises(ModelNotFound, match=r"The Hub has no model org/nothing"):
        look("org/nothing")
    with pytest.raises(BrokenCheckpoint, match=r"an adapter of llama\.cpp's"):
        look(str(tmp_path / "model.gguf"))


def test_adapters_that_are_made_for_each_other_end(tmp_path: Path, variables) -> None:
    """Each was looked for in the other, without end."""
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        said = {"base_model_name_or_path": str(tmp_path / base)}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(said))
    with pytest.raises(BrokenCheckpoint, match="which is an adapter, too"):
        resolve(str(tmp_path / "a"), variables=variables)
    assert on_disk(str(tmp_path / "a"), variables) is None
