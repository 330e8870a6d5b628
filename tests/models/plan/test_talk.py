"""What a talk takes: the cache of every kind of layer as transformers keeps it, and the buffers beside it."""

from __future__ import annotations

from typing import Any

import pytest
from published_models import (
    DEEPSEEK_V3,
    GEMMA2_9B,
    GEMMA3_1B,
    GPT_OSS_20B,
    JAMBA,
    LLAMA_8B,
    MAMBA_3B,
    MISTRAL_7B,
    QWEN3_NEXT,
    QWEN25_05B,
)

from chatcli.models.plan import cache_bytes, work_bytes
from chatcli.models.plan.talk import CHUNK

KIB = 1024


@pytest.mark.parametrize(
    ("config", "tokens", "expected"),
    [
        (LLAMA_8B, 1000, 1000 * 128 * KIB),
        (LLAMA_8B, 131072, 131072 * 128 * KIB),
        (QWEN25_05B, 32768, 32768 * 12 * KIB),  # its window is not in use
        (MISTRAL_7B, 2000, 2000 * 128 * KIB),
        (MISTRAL_7B, 32768, 4096 * 128 * KIB),  # bounded by the window
        (GEMMA2_9B, 8192, 21 * (4096 + 8192) * 8 * KIB),  # every other layer
        (GEMMA3_1B, 32768, (22 * 512 + 4 * 32768) * KIB),  # every sixth layer sees all
        (GPT_OSS_20B, 8192, 12 * (128 + 8192) * 2 * KIB),
        (DEEPSEEK_V3, 8192, 8192 * 61 * (512 + 64) * 2),  # latents, whatever the number of heads
        # The gibibytes that its authors give for 256 Ki tokens, and the states of 28 Mamba layers.
        (JAMBA, 262144, 4 * KIB**3 + 28 * (8192 * 16 * 4 + 8192 * 4 * 2)),
        # 12 layers of attention; 36 with a state of 32 times 128 by 128 in float32.
        (QWEN3_NEXT, 8192, 12 * 8192 * 2 * KIB + 36 * (32 * 128 * 128 * 4 + 8192 * 4 * 2)),
        (MAMBA_3B, 10, 64 * (5120 * 16 * 4 + 5120 * 4 * 2)),
        (MAMBA_3B, 10**6, 64 * (5120 * 16 * 4 + 5120 * 4 * 2)),  # constant
        ({"model_type": "gemma3_text", "num_hidden_layers": 34, "hidden_size": 2560, "sliding_window": 1024},
         1024, 34 * 1024 * 4 * KIB),  # what its config.json leaves out
        ({"model_type": "unknown"}, 4096, 0),
    ],
)  # fmt: skip
def test_the_cache(config: dict[str, Any], tokens: int, expected: int) -> None:
    assert cache_bytes(config, tokens) == expected


@pytest.mark.parametrize("said", ["layer_types", "layers_block_type"])
def test_kinds_of_layers_by_name(said: str) -> None:
    config = {**JAMBA, "num_hidden_layers": 3, said: ["mamba", "attention", "mlp"]}
    assert cache_bytes(config, 100) == 100 * 4096 + 8192 * 16 * 4 + 8192 * 4 * 2


def test_a_pass_grows_with_the_talk_and_the_model() -> None:
    short, long = work_bytes(LLAMA_8B, 1000), work_bytes(LLAMA_8B, 100_000)
    assert 30e6 < short < long < 3e9
    # One layer's latents are expanded to all heads: 128 of 192 and 128 numbers.
    assert work_bytes(DEEPSEEK_V3, 10_000) > 10_000 * 128 * (192 + 128) * 2
    assert work_bytes(LLAMA_8B, 4096, 4) > 1.5 * work_bytes(LLAMA_8B, 4096)


def test_a_chunk_is_what_the_runtime_reads_at_once() -> None:
    from chatcli.runtime.decode import MOST_CHUNK

    assert CHUNK == MOST_CHUNK
