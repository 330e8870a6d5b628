"""Two processes share a model and say what one would; they end together, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatcli.adapters.table import load_table
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import open_local
from chatcli.generation import GenerationSettings, Text
from chatcli.models.checkpoint import open_checkpoint

SLICED = Path(__file__).with_name("sliced.py")
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.slow


def torchrun(*arguments: str, home: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CHATCLI_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""},
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def result(
    tiny_llama: Path, make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folders = [
        tiny_llama,
        make_checkpoint("qwen3", head_dim=8, seed=3),
        make_checkpoint("gpt2"),
        make_checkpoint("llama", num_key_value_heads=1, seed=4),
    ]
    ran = torchrun(str(SLICED), *map(str, folders), home=tmp_path_factory.mktemp("home"))
    assert ran.returncode == 0, ran.stderr
    made: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return made


def test_the_same_greedy_tokens_as_in_one_process(result: dict[str, Any]) -> None:
    assert result["found"]["llama"] == result["expected"]["llama"]
    assert len(set(map(tuple, result["expected"]["llama"]))) == 4


def test_each_process_holds_its_slice_alone(result: dict[str, Any], tiny_llama: Path) -> None:
    layers, hidden, inner, heads, groups, width = 2, 32, 64, 4, 2, 8
    layer = hidden * (heads * width * 2 + groups * width * 2 + inner * 3)
    vocabulary = json.loads((tiny_llama / "config.json").read_text())["vocab_size"]
    everything = layers * layer + 2 * vocabulary * hidden
    assert result["found"]["shared"] < 0.6 * everything


def test_two_models_at_once_and_one_of_them_closed(result: dict[str, Any]) -> None:
    assert result["found"]["qwen"] == result["found"]["qwen again"] == result["expected"]["qwen"]
    assert result["found"]["llama again"] == result["expected"]["llama"]


def test_what_is_asked_in_batches_is_answered_too(result: dict[str, Any]) -> None:
    assert result["found"]["together"] == result["expected"]["together"]


def test_talks_by_turns_and_batches_between_them_keep_step(result: dict[str, Any]) -> None:
    assert result["found"]["in turns"] == result["expected"]["in turns"]


def test_what_cannot_be_shared_is_refused_in_a_sentence_and_the_others_go_on(result: dict[str, Any]) -> None:
    unplanned, uneven = result["found"]["refused"]
    assert "no plan for its family" in unplanned
    assert "1 key-value heads, which 2 processes cannot share evenly" in uneven


def test_under_torchrun_a_model_is_shared_by_itself(result: dict[str, Any]) -> None:
    assert result["found"]["by itself"] == 2


def test_ask_under_torchrun_reads_the_pipe_once_and_answers_once(tiny_llama: Path, tmp_path: Path) -> None:
    arguments = ["ask", "-m", str(tiny_llama), "--temperature", "0", "--max-tokens", "12", "--json", "-"]
    alone = open_local(open_checkpoint(tiny_llama), load_table(tmp_path), lambda progress: None)
    asked = Conversation().add(Message("user", "hello there"))
    events = alone.stream(asked, GenerationSettings(temperature=0.0, max_new_tokens=12))
    shared = torchrun("-m", "chatcli", *arguments, home=tmp_path, given="hello there")
    assert shared.returncode == 0, shared.stderr
    assert json.loads(shared.stdout)["text"] == "".join(each.text for each in events if isinstance(each, Text)) != ""


def test_a_light_command_under_torchrun_speaks_once_and_ends(tmp_path: Path) -> None:
    ran = torchrun("-m", "chatcli", "config", "path", home=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("config.toml") == 1


def test_a_failure_before_the_model_is_there_ends_all(tmp_path: Path) -> None:
    ran = torchrun("-m", "chatcli", "ask", "-m", str(tmp_path / "nowhere"), "hello", home=tmp_path)
    assert ran.returncode != 0
    assert ran.stderr.count("chatcli: ") == 1
    assert ran.stdout == ""
