"""Loading: what is placed where, what is refused, and that nothing of a checkpoint is ever executed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chatcli.errors import BrokenCheckpoint, ModelError, OutOfMemory, RemoteCodeRefused
from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan, plan
from chatcli.models.weights import weights
from chatcli.runtime.devices import devices
from chatcli.runtime.load import load_model
from chatcli.runtime.model import CausalModel, load

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)


def ids(model: CausalModel) -> list[int]:
    return [i for i in model.generate(list(range(5, 30)), GREEDY, end=(), limit=8) if isinstance(i, int)]


def loaded(folder: Path) -> CausalModel:
    checkpoint = open_checkpoint(folder)
    return load(checkpoint, weights(checkpoint), lambda progress: None)


def chosen(folder: Path) -> LoadPlan:
    checkpoint = open_checkpoint(folder)
    found = weights(checkpoint)
    return plan(checkpoint.config, found.tensors, devices(), stored_bytes=found.bytes)


def as_bin(folder: Path, tmp_path: Path) -> Path:
    """The same checkpoint with pickled weights."""
    copy = tmp_path / "bin"
    shutil.copytree(folder, copy)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    return copy


def test_progress_counts_the_bytes_of_the_weights(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    found = weights(checkpoint)
    reports: list[Progress] = []
    load(checkpoint, found, reports.append)
    assert {(r.stage, r.total, r.unit) for r in reports} == {("loading", found.bytes, "B")}
    done = [r.done for r in reports]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, found.bytes)


def test_what_was_said_reaches_the_plan(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    found = weights(checkpoint)
    model = load(checkpoint, found, lambda progress: None, LoadRequest(device="cpu", dtype="bfloat16"))
    assert model.precision == "bfloat16"
    small = LoadRequest(device="cpu", max_memory={"cpu": 1000}, fit="strict")
    with pytest.raises(OutOfMemory, match=r"but cpu has 0\.0 MB free"):
        load(checkpoint, found, lambda progress: None, small)


def test_a_model_placed_by_accelerate_says_the_same(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    spread = replace(chosen(tiny_llama), placement="auto", max_memory={"cpu": 10**9})
    model = load_model(checkpoint, weights(checkpoint), spread, lambda progress: None)
    assert ids(CausalModel(model)) == ids(loaded(tiny_llama))


def test_pickled_tensors_load(tiny_llama: Path, tmp_path: Path) -> None:
    assert ids(loaded(as_bin(tiny_llama, tmp_path))) == ids(loaded(tiny_llama))


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self._command,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tiny_llama: Path, tmp_path: Path) -> None:
    folder = as_bin(tiny_llama, tmp_path)
    canary = tmp_path / "canary"
    torch.save({"lm_head.weight": Evil(f"touch {canary}")}, folder / "pytorch_model.bin")
    with pytest.raises(BrokenCheckpoint, match="more than tensors"):
        loaded(folder)
    assert not canary.exists()


def test_code_of_a_repository_is_refused_by_name_and_does_not_run(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    shutil.copytree(tiny_llama, folder)
    canary = tmp_path / "canary"
    for module in ("configuration_own", "modeling_own"):
        (folder / f"{module}.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "our_own"
    config["auto_map"] = {"AutoConfig": "configuration_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RemoteCodeRefused, match=r"modeling_own\.py"):
        loaded(folder)
    assert not canary.exists()


def test_a_native_family_ignores_code_in_its_repository(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "native"
    shutil.copytree(tiny_llama, folder)
    canary = tmp_path / "canary"
    (folder / "modeling_own.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.M"}
    (folder / "config.json").write_text(json.dumps(config))
    assert ids(loaded(folder)) == ids(loaded(tiny_llama))
    assert not canary.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("said", ["kernels-community/own-attention", "flash_attention_2"])
def test_a_checkpoint_does_not_choose_the_code_of_its_attention(
    tiny_llama: Path, tmp_path: Path, key: str, said: str
) -> None:
    """transformers would download a kernel from the Hub and run it, or miss a package that nobody needs."""
    folder = tmp_path / "choosing"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: said}))
    assert ids(loaded(folder)) == ids(loaded(tiny_llama))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"intermediate_size": 8}, "do not belong together"),
        ({"rope_scaling": {"rope_type": "magic", "factor": 2.0}}, "'magic' is missing from its JSON files"),
    ],
)
def test_a_config_that_does_not_fit_is_explained_in_our_words(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    folder = tmp_path / "unfit"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(BrokenCheckpoint, match=said):
        loaded(folder)


def test_an_unknown_family_without_code_is_one_sentence(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unknown"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "never_heard_of"}))
    with pytest.raises(ModelError) as raised:
        loaded(folder)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")
