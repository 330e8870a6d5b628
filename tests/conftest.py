"""Fixtures that several parts share: tiny checkpoints with random weights, folders of one's own."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_formats import CHATML
from hub_server import LocalHub, serving
from hypothesis import settings
from tiny_tokenizer import SPECIAL, write_tokenizer

import chatcli.runtime  # noqa: F401  before torch: how its threads wait
from chatcli.environment import Environment

# Tiny models compute nothing that is worth a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Programs that tests start end when their terminal is closed, even where the tests were begun with nohup.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# The programs that tests start are compiled once, not each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# No model stays in memory but where a test asks for it, and ends it.
os.environ["CHATCLI_KEEP_ALIVE"] = "0"
# Nothing is compiled but where a test asks for it.
os.environ["CHATCLI_COMPILE"] = "false"
# A busy machine is no defect.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """Text streams that are no terminals, and folders below the test's own."""
    return Environment(
        io.StringIO(), io.StringIO(), io.StringIO(), {}, tmp_path / "config", tmp_path / "data", tmp_path / "state"
    )


@pytest.fixture
def local_hub() -> Iterator[LocalHub]:
    """A Hub on this machine with one model, org/chat."""
    with serving(LocalHub()) as hub:
        yield hub


TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with a tiny random model of a real architecture: `make_checkpoint("llama", seed=1, ...)`."""

    def make(model_type: str = "llama", *, seed: int = 0, template: str | None = CHATML, **config: Any) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = tmp_path_factory.mktemp(f"tiny-{model_type}-chat")
        vocabulary = write_tokenizer(folder, template)
        torch.manual_seed(seed)
        settings = {**TINY, "vocab_size": vocabulary, "eos_token_id": 2, "pad_token_id": 0, **config}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings), dtype=torch.float32)
        if not model.config.tie_word_embeddings:
            _make_readable(model, folder)
        model.save_pretrained(folder)
        return folder

    return make


def _make_readable(model: Any, folder: Path) -> None:
    """Take the weights of tokens that are no printable text, so that replies read like text and encode back."""
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    unreadable = [
        each
        for each in range(tokenizer.get_vocab_size())
        if not tokenizer.decode([each]).replace("\ufffd", "\0").isprintable() or each < len(SPECIAL)
    ]
    with torch.no_grad():
        model.get_output_embeddings().weight[unreadable] = 0.0


@pytest.fixture(scope="session")
def tiny_llama(make_checkpoint: Callable[..., Path]) -> Path:
    """A Llama of two layers that chats ChatML, in nonsense."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def make_seeing_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a tiny model that sees: `make_seeing_checkpoint("qwen2_vl")`, one of `seeing_models.FAMILIES`."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        from seeing_models import make_seeing

        if family not in made:
            made[family] = make_seeing(tmp_path_factory.mktemp(f"tiny-{family}"), family, write_tokenizer)
        return made[family]

    return make
