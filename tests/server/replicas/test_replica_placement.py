"""How many GPUs a replica takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chatcli.errors import OutOfMemory
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan.values import Device
from chatcli.models.weights import weights
from chatcli.server.replicas.placement import Division, divided, gpus_needed

GB = 10**9
CPU = Device("cpu", 0, 16 * GB, bf16=True)
CONFIG = {"num_attention_heads": 64, "num_hidden_layers": 80}


def gpus(count: int, size: int = 80 * GB) -> tuple[Device, ...]:
    return tuple(Device("cuda", n, size, bf16=True) for n in range(count))


def test_a_small_model_takes_one_gpu_and_none_where_there_is_none(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    held = weights(checkpoint)
    assert gpus_needed(checkpoint, held, (*gpus(8), CPU), LoadRequest()) == 1
    assert gpus_needed(checkpoint, held, (CPU,), LoadRequest(), copies=2) == 0
    assert gpus_needed(checkpoint, held, (*gpus(8), CPU), LoadRequest(device="cpu")) == 0


def test_copies_share_the_main_memory(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    small = replace(CPU, free_bytes=60_000_000)
    assert gpus_needed(checkpoint, weights(checkpoint), (small,), LoadRequest()) == 0
    with pytest.raises(OutOfMemory):
        gpus_needed(checkpoint, weights(checkpoint), (small,), LoadRequest(), copies=1000)


@pytest.mark.parametrize(
    ("size", "there", "expected"),
    [
        (16 * GB, 8, Division(1, 1)),
        (140 * GB, 8, Division(4, 1)),  # 70 billion parameters in bfloat16
        (140 * GB, 1, Division(1, 3)),  # machines of one GPU each: a pipeline
        (1300 * GB, 8, Division(8, 3)),  # 650 billion: three machines
    ],
)
def test_a_model_is_divided_within_a_machine_first(size: int, there: int, expected: Division) -> None:
    division = divided(CONFIG, size, gpus(there))
    assert division == expected
    assert division.gpus * 80 * GB * 0.7 >= size


def test_heads_are_divided_evenly() -> None:
    assert divided({"num_attention_heads": 14, "num_hidden_layers": 24}, 200 * GB, gpus(8)).tensor == 2


def test_what_no_division_makes_fit_is_refused() -> None:
    with pytest.raises(OutOfMemory, match="no"):
        divided(CONFIG, GB, ())
    with pytest.raises(OutOfMemory, match="too small for a layer"):
        divided({"num_attention_heads": 1, "num_hidden_layers": 2}, 1000 * GB, gpus(1))
