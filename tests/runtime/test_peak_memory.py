"""Loading takes no more memory than the model and its largest file, and brings in no code a second time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("peak.py")
LOOSE = 12 << 20
"""What the interpreter, the allocator and the threads take for themselves."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory was in use at most"),
]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 134 MB in bfloat16, in files of at most 20 MB."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("sharded")
    config = LlamaConfig(
        vocab_size=8000, hidden_size=768, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=12
    )
    with torch.device("meta"):
        empty = LlamaForCausalLM(config)
    model = empty.to(torch.bfloat16).to_empty(device="cpu")
    for weight in model.parameters():
        weight.data.fill_(0.01)
    model.save_pretrained(folder, max_shard_size="20MB")
    return folder


@pytest.fixture(scope="module")
def as_stored(tiny_llama: Path, sharded: Path) -> dict[str, Any]:
    return measured(tiny_llama, sharded, "bfloat16")


def measured(warm_up: Path, folder: Path, dtype: str) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(warm_up), str(folder), dtype],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    made: dict[str, Any] = json.loads(ran.stdout)
    return made


def largest(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


def test_weights_in_their_own_precision_are_held_once(as_stored: dict[str, Any], sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 5
    assert as_stored["own"] > 100 << 20
    assert as_stored["mapped"] <= as_stored["own"] + largest(sharded) + LOOSE


def test_weights_that_are_cast_are_held_once_beside_the_pages_of_their_files(tiny_llama: Path, sharded: Path) -> None:
    found = measured(tiny_llama, sharded, "float32")
    assert found["private"] <= found["own"] + largest(sharded) + LOOSE


def test_a_second_model_of_the_same_family_loads_no_code(as_stored: dict[str, Any]) -> None:
    assert as_stored["modules"] == []
    assert as_stored["one class"]
