"""What a checkpoint's own files say of ends and sampling, also when they say nonsense."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chatcli.adapters.encode import fast_tokenizer
from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.table import shipped
from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import open_checkpoint


def opened(folder: Path, tmp_path: Path, generation: dict[str, object]) -> ChatFormat:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "generation_config.json").write_text(json.dumps(generation))
    checkpoint = open_checkpoint(copy)
    return chat_format(checkpoint, fast_tokenizer(checkpoint), shipped())


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"temperature": 0.6, "top_k": 20, "top_p": 0.95}, GenerationSettings(temperature=0.6, top_k=20, top_p=0.95)),
        ({"do_sample": False, "temperature": 0.6}, GenerationSettings(temperature=0.0)),
        ({"top_k": -1, "temperature": -1, "top_p": 0, "min_p": 7}, GenerationSettings()),
        ({"temperature": float("nan"), "top_k": float("inf"), "repetition_penalty": "x"}, GenerationSettings()),
    ],
)
def test_sampling_comes_from_the_checkpoint_where_it_makes_sense(
    tiny_llama: Path, tmp_path: Path, said: dict[str, object], taken: GenerationSettings
) -> None:
    assert opened(tiny_llama, tmp_path, said).defaults == taken


@pytest.mark.parametrize(("declared", "end"), [(5, {2, 5}), ([5, 6], {2, 5, 6}), (None, {2})])
def test_every_declared_end_ends_a_reply(tiny_llama: Path, tmp_path: Path, declared: object, end: set[int]) -> None:
    """The tokenizer's own <|im_end|> is id 2, and so is the eos_token_id of config.json."""
    assert opened(tiny_llama, tmp_path, {"eos_token_id": declared}).end == end
