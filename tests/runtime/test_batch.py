"""A batch makes of every prompt what it would make of it alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.batch import decode_batch
from chatcli.runtime.decode import decode, prefill
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.sampling import Sampler

CPU = torch.device("cpu")
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 24},
    "gpt_neox": {"num_key_value_heads": None},
}
END = (2,)


@pytest.fixture(scope="module")
def models(make_checkpoint: Callable[..., Path]) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def model(family: str) -> Any:
        if family not in made:
            folder = make_checkpoint(family, seed=4, **FAMILIES[family])
            made[family] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return made[family]

    return model


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 300, (length,), generator=generator).tolist() for length in (3, 40, 17, 1, 29)]


def alone(model: Any, prompt: list[int], sampler: Sampler, limit: int) -> list[int]:
    cache = PrefixCache(model.config)
    reading = prefill(model, cache, prompt)
    while True:
        try:
            next(reading)
        except StopIteration as read:
            return list(decode(model, cache, prompt, read.value, sampler, end=END, limit=limit))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_row_is_what_it_would_be_alone(family: str, temperature: float, models: Callable[[str], Any]) -> None:
    model, asked, limits = models(family), prompts(), [20, 12, 1, 20, 7]

    def sampler(row: int) -> Sampler:
        return Sampler(GenerationSettings(temperature=temperature, seed=row).over(DEFAULTS), CPU)

    replies: list[list[int]] = [[] for _ in asked]
    ended = set()
    for row, token in decode_batch(model, asked, [sampler(row) for row in range(5)], end=[END] * 5, limits=limits):
        assert row not in ended
        if token is None:
            ended.add(row)
        else:
            replies[row].append(token)
    assert replies == [alone(model, prompt, sampler(row), limits[row]) for row, prompt in enumerate(asked)]


def test_a_row_that_the_caller_stops_makes_no_more_and_the_others_go_on(models: Callable[[str], Any]) -> None:
    model, stopped = models("llama"), set[int]()
    count = [0, 0]
    samplers = [Sampler(GenerationSettings(temperature=0.0).over(DEFAULTS), CPU) for _ in range(2)]
    for row, token in decode_batch(model, prompts()[:2], samplers, end=[(), ()], limits=[9, 9], stopped=stopped):
        assert token is not None
        count[row] += 1
        if row == 0 and count[0] == 3:
            stopped.add(0)
    assert count == [3, 9]
