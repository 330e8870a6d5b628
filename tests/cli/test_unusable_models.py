"""What a person sees who names a model that cannot be used: one sentence, code 3, before torch is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Damage = Callable[[Path], None]


def _config(**changes: object) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _no_template(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "model.safetensors"),
        (_lose_a_shard, "model-00002-of-00002.safetensors"),
        (_no_template, "base model"),
        (_config(architectures=["BertForMaskedLM"], model_type="bert"), "encoder"),
        (_config(num_hidden_layers=-1), "num_hidden_layers"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors"),
    ],
    ids=["truncated", "shard", "base", "encoder", "layers", "config", "no-config", "tokenizer", "empty"],
)
def test_a_model_that_cannot_be_used_is_explained_in_one_sentence(
    tiny_llama: Path, tmp_path: Path, damage: Damage, says: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    damage(folder)
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chatcli", "ask", "-m", str(folder), "hi"],
        env={**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in ran.stderr.splitlines() if not line.startswith("import time:")]
    assert (ran.returncode, ran.stdout) == (3, "")
    assert len(complaints) == 1
    assert says in complaints[0]
    assert "| torch\n" not in ran.stderr
