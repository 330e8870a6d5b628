"""What the benchmark reports must be what happened: counts, rates, both ways, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.cli.bench import _table
from chatcli.generation import Progress
from chatcli.runtime import bench
from chatcli.runtime.bench import Measured, Speed, measure
from chatcli.runtime.model import CausalModel, bytes_per_token

IDS = list(range(5, 45))


@pytest.fixture
def model(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> CausalModel:
    monkeypatch.setattr(bench, "READ_BYTES", 1 << 20)
    return CausalModel(AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval())


def run(model: CausalModel, tokens: int, rounds: int) -> tuple[list[Progress], Measured]:
    measuring = measure(model, IDS, tokens, rounds)
    told = []
    while True:
        try:
            told.append(next(measuring))
        except StopIteration as end:
            return told, end.value


def test_both_ways_are_measured_in_every_round(model: CausalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves a second at each look makes every number exact."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr(bench, "perf_counter", clock)
    told, found = run(model, tokens=6, rounds=3)
    assert [each.done for each in told] == [0, 1, 2, 3]
    assert (found.prompt, found.tokens, found.rounds) == (40, 6, 3)
    assert found.ours == Speed(first_token=1.0, prefill=40.0, decode=1.0)
    # generate() hands the prompt to its streamer, too
    assert found.plain == Speed(first_token=2.0, prefill=20.0, decode=1.0)
    assert found.ratios == Speed(first_token=2.0, prefill=2.0, decode=1.0)
    assert found.bytes_per_token == bytes_per_token(model.module)
    assert found.share == found.bytes_per_token / found.bandwidth


def test_an_answer_is_not_ended_by_its_end_token(make_checkpoint: Callable[..., Path]) -> None:
    """All that this model says is the end of its answer."""
    module: Any = AutoModelForCausalLM.from_pretrained(make_checkpoint(seed=1), dtype=torch.float32).eval()
    module.get_output_embeddings().weight.data[:] = 0
    module.generation_config.eos_token_id = module.config.eos_token_id = 0
    speed = bench.plain_once(module, IDS, 6)
    assert speed
    assert speed.decode > 0


def test_a_model_that_generate_cannot_run_is_measured_alone(
    model: CausalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise ValueError("this model has no generate")

    monkeypatch.setattr(model.module, "generate", broken)
    _, found = run(model, tokens=3, rounds=1)
    assert found.plain is found.ratios is None
    assert found.ours.decode > 0
    assert [row[0] for row in _table(found)] == ["", "first token", "prompt", "answer", "share of the memory's rate"]
    assert {len(row) for row in _table(found)} == {2}


def test_the_cache_of_a_measurement_is_not_kept(model: CausalModel) -> None:
    run(model, tokens=3, rounds=1)
    first = next(model.generate(IDS, bench.GREEDY, end=(), limit=1))
    assert isinstance(first, Progress)
    assert first.done == 0
