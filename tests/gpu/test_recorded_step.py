"""The recorded step on a GPU: the tokens of the plain loop, with the text one step behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime.graphs import StaticSteps, can_be_recorded
from chatcli.runtime.model import CausalModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
PROMPT = list(range(5, 30))
SETTINGS = {
    "greedy": GenerationSettings(temperature=0.0),
    "sampled": GenerationSettings(temperature=1.5, top_k=50, top_p=0.9, seed=7),
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"sliding_window": 16, "head_dim": 8},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    folder = make_checkpoint(request.param, seed=5, **FAMILIES[request.param])
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to("cuda")


def answer(talking: CausalModel, ids: list[int], settings: GenerationSettings) -> list[int]:
    made = talking.generate(ids, settings.over(DEFAULTS), end=(), limit=60)
    return [each for each in made if not isinstance(each, Progress)]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_recorded_tokens_are_those_of_the_plain_loop(model: Any, settings: GenerationSettings) -> None:
    plain, fast = CausalModel(model), CausalModel(model)
    plain.steps = None
    first = answer(plain, PROMPT, settings)
    assert answer(fast, PROMPT, settings) == first
    longer = [*PROMPT, *first, 8, 9]
    assert answer(fast, longer, settings) == answer(plain, longer, settings)


def test_compiled_tokens_are_those_of_the_plain_loop(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("llama", seed=5)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to("cuda")
    plain, fast = CausalModel(model), CausalModel(model)
    plain.steps = None
    assert fast.steps
    assert fast.steps.compile()
    for settings in SETTINGS.values():
        assert answer(fast, PROMPT, settings) == answer(plain, PROMPT, settings)


def test_a_llama_is_recorded_and_a_sliding_window_is_not(make_checkpoint: Callable[..., Path]) -> None:
    for family, recorded in (("llama", True), ("gemma2", False)):
        folder = make_checkpoint(family, seed=5, **FAMILIES[family])
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to("cuda")
        assert can_be_recorded(model) is recorded
        if recorded:
            assert StaticSteps(model).holding(100, SETTINGS["sampled"].over(DEFAULTS))
