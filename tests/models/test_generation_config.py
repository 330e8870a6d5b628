"""What a checkpoint's own files say of ends and sampling, also when they say nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.generation_config import declared_ends, declared_sampling


def checkpoint(generation: dict[str, Any], **config: Any) -> Checkpoint:
    return Checkpoint("x", Path("x"), "", {"model_type": "llama", **config}, generation)


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"temperature": 0.6, "top_k": 20, "top_p": 0.95}, GenerationSettings(temperature=0.6, top_k=20, top_p=0.95)),
        ({"do_sample": False, "temperature": 0.6}, GenerationSettings(temperature=0.0)),
        ({"top_k": -1, "temperature": -1, "top_p": 0, "min_p": 7}, GenerationSettings()),
        ({"temperature": float("nan"), "top_k": float("inf"), "repetition_penalty": "x"}, GenerationSettings()),
        ({"temperature": True, "min_p": 0.1}, GenerationSettings(min_p=0.1)),
    ],
)
def test_sampling_counts_where_it_makes_sense(said: dict[str, Any], taken: GenerationSettings) -> None:
    assert declared_sampling(checkpoint(said)) == taken


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        (7, {"eos_token_id": 2}, {7}),  # 2 is an ordinary word of this vocabulary
        (7, {"eos_token_id": 9}, {7, 9}),
        ([7, 8], {"eos_token_id": [2, 9]}, {7, 8, 9}),
        (None, {"eos_token_id": 2}, {2}),
        (None, {"text_config": {"eos_token_id": 3}}, {3}),
        (None, {}, set()),
        (True, {"eos_token_id": "</s>"}, set()),
    ],
)
def test_ends_come_from_both_files(generation: object, config: dict[str, Any], ends: set[int]) -> None:
    assert declared_ends(checkpoint({"eos_token_id": generation}, **config), special={7, 8, 9}) == ends
