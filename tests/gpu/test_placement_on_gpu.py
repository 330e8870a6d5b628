"""Placement with a GPU: parts in main memory or on the disk, and several GPUs, say what the CPU says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import weights
from chatcli.runtime.load import load_model
from chatcli.runtime.model import CausalModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
ALONE = LoadPlan("float32", "cpu", "single", 0, 0)
SOME = 180_000
"""Bytes that hold some of the parts of the tiny model."""


@pytest.fixture(scope="module")
def folder(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint(num_hidden_layers=4)


def loaded(folder: Path, plan: LoadPlan) -> CausalModel:
    checkpoint = open_checkpoint(folder)
    return CausalModel(load_model(checkpoint, weights(checkpoint), plan, lambda progress: None))


def spread(memory: dict[int | str, int]) -> LoadPlan:
    return LoadPlan("float32", "cuda:0", "auto", 0, 0, memory)


def said(model: CausalModel) -> list[int]:
    return [i for i in model.generate(list(range(5, 30)), GREEDY, end=(), limit=12) if isinstance(i, int)]


def places(model: CausalModel) -> set[object]:
    return set(model._model.hf_device_map.values())


@pytest.mark.parametrize(
    ("memory", "where"),
    [
        ({0: SOME, "cpu": 10**9}, {0, "cpu"}),
        ({0: SOME, "cpu": 0, "disk": 10**9}, {0, "disk"}),
        ({0: 10**9}, {0}),
    ],
)
def test_what_is_not_on_the_gpu_says_the_same(folder: Path, memory: dict[int | str, int], where: set[object]) -> None:
    model = loaded(folder, spread(memory))
    assert model.device == "cuda:0"
    assert len(where) == 1 or places(model) == where
    assert said(model) == said(loaded(folder, ALONE))
    model.close()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_layers_over_two_gpus_say_the_same(folder: Path) -> None:
    model = loaded(folder, spread({0: SOME, 1: 10**9}))
    assert places(model) == {0, 1}
    assert said(model) == said(loaded(folder, ALONE))


def test_memory_that_runs_out_on_the_gpu_leaves_the_talk_usable(folder: Path) -> None:
    from chatcli.errors import OutOfMemory

    model = loaded(folder, LoadPlan("float32", "cuda:0", "single", 0, 0))
    expected = said(model)
    free, everything = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(max((torch.cuda.memory_reserved() + (1 << 20)) / everything, 1e-6))
    try:
        with pytest.raises(OutOfMemory, match="cuda:0 ran out of memory"):
            list(
                model.generate_batch(
                    [[5] * 500] * 64, [GREEDY] * 64, end=[()] * 64, limits=[1] * 64, stopped=(), constraints=[None] * 64
                )
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert free > 0
    assert said(model) == expected
