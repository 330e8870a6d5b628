"""Reading only what is new must give the very tokens that reading everything gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime.decode import LEAST_CHUNK
from chatcli.runtime.model import CausalModel

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 16},
    "gemma2": {"sliding_window": 16, "head_dim": 8},
    "gpt_neox": {"num_key_value_heads": None},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def answer(model: CausalModel, prompt: list[int], length: int = 12) -> tuple[list[int], int]:
    """Twelve ids, and how many of the prompt's were cached."""
    cached, made = -1, []
    for item in model.generate(prompt, GREEDY, end=(), limit=length):
        if isinstance(item, Progress):
            cached = item.done if cached < 0 else cached
        else:
            made.append(item)
    return made, cached


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    return load(make_checkpoint(request.param, seed=5, **FAMILIES[request.param]))


def test_greedy_decoding_equals_generate(model: Any) -> None:
    prompt = list(range(5, 45))
    expected = model.generate(
        torch.tensor([prompt]), max_new_tokens=30, min_new_tokens=30, do_sample=False, pad_token_id=0
    )
    made, _ = answer(CausalModel(model), prompt, 30)
    assert made == expected[0, len(prompt) :].tolist()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_reuse_equals_recompute_for_any_sequence_of_prompts(model: Any, data: st.DataObject) -> None:
    """Each prompt keeps some beginning of the one before with its answer, as undo, retry and new turns do."""
    talking = CausalModel(model)
    history: list[int] = []
    for _ in range(4):
        kept = history[: data.draw(st.integers(0, len(history)))]
        prompt = kept + data.draw(st.lists(st.integers(3, 300), min_size=1, max_size=24))
        made, _ = answer(talking, prompt)
        assert made == answer(CausalModel(model), prompt)[0]
        history = prompt + made


def test_a_turn_that_only_adds_reads_only_what_is_new(model: Any) -> None:
    talking = CausalModel(model)
    prompt = list(range(5, 45))
    made, cached = answer(talking, prompt)
    assert cached == 0
    _, cached = answer(talking, [*prompt, *made, 7, 8, 9])
    assert cached == len(prompt) + len(made) - 1  # the last id made was never fed


def test_a_forward_pass_that_breaks_leaves_no_half_filled_cache(tiny_llama: Path) -> None:
    loaded = load(tiny_llama)
    talking = CausalModel(loaded)
    prompt = list(range(5, 45))
    expected, _ = answer(talking, prompt)
    layer = loaded.model.layers[1]
    hook = layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        answer(talking, [*prompt[:30], 9, 9, 9])
    hook.remove()
    assert answer(talking, prompt)[0] == expected


def test_a_long_prompt_is_read_in_chunks_and_can_be_left_between_them(tiny_llama: Path) -> None:
    talking = CausalModel(load(tiny_llama))
    prompt = [5 + i % 300 for i in range(1300)]
    steps = talking.generate(prompt, GREEDY, end=(), limit=1)
    first, second = next(steps), next(steps)
    assert isinstance(first, Progress) and isinstance(second, Progress)
    assert (first.done, second.done, first.total) == (0, LEAST_CHUNK, 1300)
    steps.close()
    _, cached = answer(talking, prompt, 4)
    assert cached == LEAST_CHUNK


def test_an_id_that_the_model_does_not_know_is_an_error_not_a_crash(tiny_llama: Path) -> None:
    from chatcli.errors import EngineError

    with pytest.raises(EngineError, match="do not belong together"):
        answer(CausalModel(load(tiny_llama)), [5, 100_000])


def test_out_of_memory_frees_the_cache_and_the_next_turn_works(tiny_llama: Path) -> None:
    from chatcli.errors import OutOfMemory

    loaded = load(tiny_llama)
    talking = CausalModel(loaded)
    prompt = list(range(5, 45))
    expected, _ = answer(talking, prompt)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = loaded.model.layers[1].register_forward_pre_hook(full)
    with pytest.raises(OutOfMemory, match="ran out of memory"):
        answer(talking, [*prompt, 9])
    hook.remove()
    made, cached = answer(talking, prompt)
    assert (made, cached) == (expected, 0)
