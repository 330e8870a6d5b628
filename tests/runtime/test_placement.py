"""Placement: whichever parts of a model are where, it says the same; what is written to the disk goes again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chatcli.errors import OutOfMemory
from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import weights
from chatcli.runtime.explain import explained
from chatcli.runtime.load import load_model
from chatcli.runtime.model import CausalModel

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
SINGLE = LoadPlan("float32", "cpu", "single", 0, 0)
MIXED = replace(SINGLE, placement="auto", max_memory={"cpu": 180_000, "disk": 10**9})
"""Some of the parts of a tiny model in memory, some on the disk."""
DISK = replace(MIXED, max_memory={"cpu": 0, "disk": 10**9})


def loaded(folder: Path, plan: LoadPlan, notes: list[str] | None = None) -> CausalModel:
    checkpoint = open_checkpoint(folder)

    def report(progress: Progress) -> None:
        if progress.note and notes is not None:
            notes.append(progress.note)

    return CausalModel(load_model(checkpoint, weights(checkpoint), plan, report))


def said(model: CausalModel) -> list[int]:
    """Two turns, so that the cache is cut and gone on with."""
    asked = list(range(5, 30))
    first = [i for i in model.generate(asked, GREEDY, end=(), limit=8) if isinstance(i, int)]
    again = [i for i in model.generate([*asked[:20], 40, 41], GREEDY, end=(), limit=8) if isinstance(i, int)]
    return first + again


def places(model: CausalModel) -> set[object]:
    return set(model._model.hf_device_map.values())


@pytest.fixture(autouse=True)
def offload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that temporary folders are made in."""
    folder = tmp_path / "offload"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture(scope="module")
def wide_llama(make_checkpoint: Callable[..., Path]) -> Path:
    """Four layers, so that there is something to share out."""
    return make_checkpoint(num_hidden_layers=4)


@pytest.mark.parametrize(("plan", "where"), [(MIXED, {"cpu", "disk"}), (DISK, {"disk"})])
def test_what_stays_on_the_disk_says_the_same(wide_llama: Path, plan: LoadPlan, where: set[object]) -> None:
    model = loaded(wide_llama, plan)
    assert places(model) == where
    assert model.device == "cpu"
    assert said(model) == said(loaded(wide_llama, SINGLE))


def test_many_prompts_at_once_from_the_disk(wide_llama: Path) -> None:
    prompts = [list(range(5, 12)), list(range(20, 40))]

    def answers(model: CausalModel) -> list[tuple[int, int | None]]:
        return list(
            model.generate_batch(
                prompts, [GREEDY] * 2, end=[()] * 2, limits=[5, 5], stopped=(), constraints=[None, None]
            )
        )

    assert answers(loaded(wide_llama, DISK)) == answers(loaded(wide_llama, SINGLE))


def test_one_sentence_says_that_the_disk_is_slow(wide_llama: Path) -> None:
    notes: list[str] = []
    loaded(wide_llama, DISK, notes)
    assert len(notes) == 1
    assert notes[0].startswith("100% of the model stays on the disk")
    assert "slow" in notes[0]


def test_a_plan_that_says_so_itself_is_not_repeated(wide_llama: Path) -> None:
    notes: list[str] = []
    loaded(wide_llama, replace(DISK, notes=("All of it stays on the disk.",)), notes)
    assert not notes


def test_plain_safetensors_are_read_where_they_are(wide_llama: Path, offload: Path) -> None:
    model = loaded(wide_llama, DISK)
    assert not list(offload.iterdir())
    model.close()


def as_bin(folder: Path, copy: Path) -> Path:
    import shutil

    shutil.copytree(folder, copy)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    return copy


def test_what_has_to_be_written_is_private_and_goes_with_the_model(
    wide_llama: Path, tmp_path: Path, offload: Path
) -> None:
    model = loaded(as_bin(wide_llama, tmp_path / "bin"), DISK)
    (folder,) = offload.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.glob("*.safetensors"))
    assert said(model) == said(loaded(wide_llama, SINGLE))
    model.close()
    assert not list(offload.iterdir())


def test_experts_that_are_joined_while_loading_stay_on_the_disk_too(
    make_checkpoint: Callable[..., Path], offload: Path
) -> None:
    folder = make_checkpoint(
        "qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=8, decoder_sparse_step=1
    )
    model = loaded(folder, DISK)
    assert list(offload.glob("*/*.safetensors"))
    assert said(model) == said(loaded(folder, SINGLE))
    model.close()
    assert not list(offload.iterdir())


def test_a_load_that_fails_leaves_nothing_behind(wide_llama: Path, tmp_path: Path, offload: Path) -> None:
    folder = as_bin(wide_llama, tmp_path / "bin")
    tensors = torch.load(folder / "pytorch_model.bin")
    del tensors["model.layers.3.mlp.down_proj.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"down_proj"):
        loaded(folder, DISK)
    assert not list(offload.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_one(wide_llama: Path, offload: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = offload / f"chatcli-offload-{ended.pid}-abc"
    ours = offload / f"chatcli-offload-{os.getpid()}-abc"
    for folder in (left, ours):
        folder.mkdir()
        (folder / "part.safetensors").touch()
    loaded(wide_llama, DISK)
    assert list(offload.iterdir()) == [ours]


def test_a_full_disk_is_said_to_be_full() -> None:
    """/dev/full fails as a full disk does."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OutOfMemory, match="disk is full"), explained("tiny"), full.open("wb", buffering=0) as file:
        file.write(b"x")
