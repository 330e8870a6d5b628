"""The CPU's fast ways must give the tokens of the plain ones, and leave the process as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime import cpu
from chatcli.runtime.cpu import AS_TORCH_DOES, OneRow, fastest_row
from chatcli.runtime.decode import decode, feed, prefill
from chatcli.runtime.kv import CACHE, GrowingLayer, PrefixCache, growing_cache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.sampling import Sampler

CPU = torch.device("cpu")
GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)


@pytest.fixture(scope="module")
def model(make_checkpoint: Callable[..., Path]) -> Any:
    return AutoModelForCausalLM.from_pretrained(make_checkpoint("llama", seed=3), dtype=torch.float32).eval()


def made(model: Any, way: OneRow, length: int = 20) -> list[int]:
    ids = list(range(5, 30))
    cache = PrefixCache(model.config)
    reading = prefill(model, cache, ids)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            logits = end.value
            break
    return list(decode(model, cache, ids, logits, Sampler(GREEDY, CPU), end=(), limit=length, one_row=way))


@pytest.mark.parametrize("way", [OneRow(onednn=False), OneRow(threads=2), OneRow(onednn=False, threads=2)])
def test_each_way_gives_the_same_tokens(model: Any, way: OneRow) -> None:
    assert made(model, way) == made(model, AS_TORCH_DOES)


def test_a_way_ends_with_its_pass_even_when_that_fails() -> None:
    before = torch._C._get_mkldnn_enabled(), torch.get_num_threads()
    way = OneRow(onednn=False, threads=before[1] + 1)
    with pytest.raises(ValueError, match="broken"), way():
        assert not torch._C._get_mkldnn_enabled()
        assert torch.get_num_threads() == before[1] + 1
        raise ValueError("broken")
    assert (torch._C._get_mkldnn_enabled(), torch.get_num_threads()) == before


def test_the_measured_way_is_one_that_the_model_can_be_run_with(model: Any) -> None:
    assert made(model, fastest_row(model)) == made(model, AS_TORCH_DOES)


def test_the_way_with_the_shortest_time_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only moves in passes through oneDNN, torch's own kernel wins; and the other way round."""
    model = torch.nn.Linear(8, 8)
    now = 0.0
    slow = True

    def clock() -> float:
        nonlocal now
        now += 1.0 if torch._C._get_mkldnn_enabled() is slow else 0.1
        return now

    class Slowed(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.nn.functional.linear:
                clock()
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(cpu.time, "perf_counter", clock)
    for onednn_is_slow in (True, False):
        now, slow, expected = 0.0, onednn_is_slow, not onednn_is_slow
        with Slowed():
            assert fastest_row(model).onednn is expected


def test_a_model_without_linear_layers_on_the_cpu_is_run_as_torch_does() -> None:
    assert fastest_row(torch.nn.LayerNorm(4)) == AS_TORCH_DOES
    assert fastest_row(torch.nn.Linear(4, 4, device="meta")) == AS_TORCH_DOES


def test_a_growing_layer_holds_what_concatenation_holds() -> None:
    """Also where it is cut between, across its room's end, and where somebody replaced its tensors."""
    generator = torch.Generator().manual_seed(0)
    layer = GrowingLayer()
    held = torch.empty(1, 2, 0, 4)
    for step in range(400):
        new = torch.randn(1, 2, 1 + 300 * (step % 97 == 0), 4, generator=generator)
        held = torch.cat([held, new], dim=-2)
        keys, values = layer.update(new, new + 1)
        assert torch.equal(keys, held)
        assert torch.equal(values, held + 1)
        if step % 50 == 49:
            held = held[..., :-7, :]
            layer.keys, layer.values = layer.keys[..., :-7, :], layer.values[..., :-7, :]
        if step % 120 == 119:  # as choosing rows of a batch does
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_that_heads_share_give_the_same_bits_uncopied(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk behind others has a mask, for which transformers copied them for each head."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=99, num_hidden_layers=2, **sizes)).to(dtype).eval()
    assert CausalModel(model).device == "cpu"
    asked = "TRANSFORMERS_SDPA_FORCE_GQA"
    assert os.environ[asked] == "1"
    logits = {}
    for said in "01":
        monkeypatch.setenv(asked, said)
        cache = PrefixCache(model.config)
        logits[said] = [feed(model, cache, ids) for ids in (range(40), range(40, 60), [7])][1:]
    assert all(torch.equal(copied, shared) for copied, shared in zip(logits["0"], logits["1"], strict=True))


def test_most_tokens_are_written_in_place() -> None:
    layer = GrowingLayer()
    places = {layer.update(*[torch.zeros(1, 1, 1, 2)] * 2)[0].data_ptr() for _ in range(1000)}
    assert len(places) < 6


def test_a_growing_cache_gives_the_logits_of_transformers_cache(model: Any) -> None:
    ours, theirs = growing_cache(model.config), DynamicCache(config=model.config)
    for ids in ([[5, 6, 7]], [[8]], [[9, 10]]):
        with torch.inference_mode():
            a, b = (model(input_ids=torch.tensor(ids), **{CACHE: cache}).logits for cache in (ours, theirs))
        torch.testing.assert_close(a, b)
