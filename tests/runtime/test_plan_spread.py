"""Limits over several places, as accelerate's device map carries them out."""

from __future__ import annotations

from typing import Any

import pytest
from accelerate import infer_auto_device_map, init_empty_weights
from accelerate.utils import get_balanced_memory
from transformers import AutoConfig, AutoModelForCausalLM

from chatcli.load_request import LoadRequest
from chatcli.models.plan import Device, plan
from chatcli.models.weights import Tensor

GB = 10**9
SHAPE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 8192}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    """A model without weights: 0.5 billion parameters."""
    with init_empty_weights():
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE), dtype="bfloat16")


@pytest.mark.parametrize(
    ("gpus", "cpu", "places"),
    [
        ((0.8, 0.8), 9, {0, 1}),
        ((0.6, 0.6, 0.6), 9, {0, 1, 2}),
        ((0.7,), 9, {0, "cpu"}),
        ((0.6,), 0.3, {0, "cpu", "disk"}),
    ],
)
def test_all_of_the_model_finds_a_place_within_the_limits(
    model: Any, gpus: tuple[float, ...], cpu: float, places: set[int | str]
) -> None:
    tensors = {n: Tensor("BF16", tuple(p.shape), p.numel() * 2) for n, p in model.named_parameters()}
    devices = [Device("cuda", index, int(free * GB), True) for index, free in enumerate(gpus)]
    request = LoadRequest(quantization="none", context=2048)
    made = plan({"model_type": "llama", **SHAPE}, tensors, [*devices, Device("cpu", 0, int(cpu * GB), True)], request)
    assert set(made.max_memory) == places
    memory: dict[Any, Any] = {
        place: size for place, size in made.max_memory.items() if place != "disk"
    }  # it is implied
    limits = get_balanced_memory(model, memory, no_split_module_classes=["LlamaDecoderLayer"])
    found = infer_auto_device_map(model, limits, no_split_module_classes=["LlamaDecoderLayer"], dtype="bfloat16")
    assert set(found.values()) <= places
    assert "disk" in found.values() or "disk" not in places
