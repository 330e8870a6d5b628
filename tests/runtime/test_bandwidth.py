"""What bounds the speed of decoding: bytes of weights for each token, bytes a second of the memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from chatcli.runtime.devices import memory_bandwidth
from chatcli.runtime.model import CausalModel, bytes_per_token

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_read_but_the_embedding_only_where_it_is_the_head_too(tied: bool) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).to(torch.bfloat16)
    # Attention 4 x 16 x 16, MLP 3 x 16 x 32, three norms of 16, head 50 x 16; two bytes each.
    assert bytes_per_token(model) == 2 * (4 * 16 * 16 + 3 * 16 * 32 + 3 * 16 + 50 * 16)


def test_of_a_mixture_of_experts_nobody_knows() -> None:
    assert bytes_per_token(MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2))) == 0


def test_bandwidth_is_two_edges_of_the_clock_times_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H100's own numbers: 2619 MHz and 5120 bits make 3.35 TB/s."""
    said = SimpleNamespace(memory_clock_rate=2_619_000, memory_bus_width=5120)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: said)
    assert memory_bandwidth(torch.device("cuda", 0)) == pytest.approx(3.352e12, rel=1e-3)


def test_a_cpu_does_not_say() -> None:
    assert memory_bandwidth(torch.device("cpu")) == 0
    assert CausalModel(LlamaForCausalLM(LlamaConfig(**SIZES))).most_tokens_per_second == 0
