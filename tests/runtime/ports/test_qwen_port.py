"""The first Qwen models against their plain formula, within the length of their training and beyond it."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plain_formulas import Random, attend, difference, doubled, heads, linear, loaded, rms_norm, turn_halves, write
from torch import Tensor
from torch.nn.functional import silu

from chatcli.models.checkpoint import context_length, open_checkpoint
from chatcli.models.plan import kv_bytes_per_token
from chatcli.models.qwen import read_tokenizer

CONFIG = {
    "model_type": "qwen",
    "architectures": ["QWenLMHeadModel"],
    "attn_dropout_prob": 0.0,
    "bf16": False,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": 64,
    "intermediate_size": 160,
    "initializer_range": 0.02,
    "kv_channels": 16,
    "layer_norm_epsilon": 1e-6,
    "max_position_embeddings": 128,
    "no_bias": True,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 32,
    "tie_word_embeddings": False,
    "tokenizer_class": "QWenTokenizer",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": 96,
}


def made() -> Random:
    random = Random()
    random.embedding("transformer.wte", 96, 64)
    for i in range(2):
        h = f"transformer.h.{i}"
        random.norm(f"{h}.ln_1", 64)
        random.norm(f"{h}.ln_2", 64)
        random.matrix(f"{h}.attn.c_attn", 192, 64, bias=True)
        random.matrix(f"{h}.attn.c_proj", 64, 64)
        random.matrix(f"{h}.mlp.w1", 80, 64)
        random.matrix(f"{h}.mlp.w2", 80, 64)
        random.matrix(f"{h}.mlp.c_proj", 64, 80)
    random.norm("transformer.ln_f", 64)
    random.matrix("lm_head", 96, 64)
    return random


def plain(ids: list[int], config: dict[str, object], prompt: int) -> Tensor:
    """All logits, the keys being turned by the base that belongs to the first `prompt` ids."""
    w, trained = doubled(made().weights), int(config["seq_length"])
    base, place = 10000.0, torch.arange(1, len(ids) + 1, dtype=torch.double)
    if config["use_dynamic_ntk"] and prompt > trained:
        alpha = 2 ** math.ceil(math.log2(prompt / trained) + 1) - 1
        base *= alpha ** (16 / 14)
    grown = (place.log() / math.log(trained)).clamp(min=1) if config["use_logn_attn"] else torch.ones(len(ids)).double()
    turn = (place - 1)[:, None] / base ** (torch.arange(0, 16, 2).double() / 16)
    x = w["transformer.wte.weight"][ids]
    for i in range(2):
        h = f"transformer.h.{i}"
        y = linear(w, f"{h}.attn.c_attn", rms_norm(w, f"{h}.ln_1", x, 1e-6))
        q, k, v = (heads(part, 4) for part in y.split(64, -1))
        seen = attend(turn_halves(q, turn) * grown[:, None], turn_halves(k, turn), v)
        x = x + linear(w, f"{h}.attn.c_proj", seen)
        y = rms_norm(w, f"{h}.ln_2", x, 1e-6)
        x = x + linear(w, f"{h}.mlp.c_proj", linear(w, f"{h}.mlp.w1", y) * silu(linear(w, f"{h}.mlp.w2", y)))
    return linear(w, "lm_head", rms_norm(w, "transformer.ln_f", x, 1e-6))


def text(length: int) -> list[int]:
    return torch.randint(0, 96, (length,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize(
    ("length", "changes"),
    [
        (16, {}),
        (34, {}),  # four cached steps lead over the edge: log-n grows, the base stays
        (60, {}),
        (120, {}),
        (60, {"use_dynamic_ntk": False}),
        (60, {"use_logn_attn": False, "use_dynamic_ntk": False}),  # as the 72B
    ],
)
def test_qwen(tmp_path: Path, length: int, changes: dict[str, object]) -> None:
    config = {**CONFIG, **changes}
    folder = write(tmp_path, config, made().weights)
    assert difference(folder, lambda ids: plain(ids, config, length - 4), text(length)) < 2e-4
    assert context_length(config) == 128
    assert kv_bytes_per_token(config) == 2 * 2 * 64 * 2


def test_long_prompts_give_what_they_would_give_alone(tmp_path: Path) -> None:
    """The cache of a prompt with another base is of no use, neither for longer ones nor, after an undo, for shorter."""
    from chatcli.runtime.decode import prefill
    from chatcli.runtime.kv import PrefixCache

    model = loaded(write(tmp_path, CONFIG, made().weights))
    cache, ids = PrefixCache(model.config), text(120)
    for length in (20, 28, 60, 110, 120, 70, 30, 30, 25):
        alone = plain(ids[:length], CONFIG, length)[-1]
        steps = prefill(model, cache, ids[:length])
        try:
            while True:
                next(steps)
        except StopIteration as end:
            assert (end.value.double() - alone).abs().max() < 2e-4, length


def write_ranks(folder: Path) -> None:
    tokens = [bytes([each]) for each in range(256)] + [b"he", b"ll", b"hell", b"hello", "你".encode(), b" w"]
    lines = [base64.b64encode(token) + f" {rank}".encode() for rank, token in enumerate(tokens)]
    (folder / "qwen.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    config = {
        "model_max_length": 8192,
        "tokenizer_class": "QWenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_the_tiktoken_file_is_the_tokenizer(tmp_path: Path) -> None:
    """Digits one by one, NFC first, special tokens behind the ranks and never made from what a person writes alone."""
    from transformers import AutoTokenizer

    from chatcli.runtime import ports

    write(tmp_path, CONFIG, made().weights)
    write_ranks(tmp_path)
    ports.register()
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert type(found).__name__ == "QWenTokenizer"
    own = read_tokenizer(open_checkpoint(tmp_path))
    assert own.encode("hello w12").ids == [259, 261, 49, 50]
    assert own.encode("e\u0301").ids == own.encode("\u00e9").ids == list("\u00e9".encode())
    turn = "<|im_start|>user\n你<|im_end|>"
    assert own.encode(turn).ids == [263, *b"user\n", 260, 264]
    assert own.token_to_id("<|extra_204|>") == 262 + 3 + 204
    for each in ("hello w12", turn, "e\u0301"):
        assert found(each)["input_ids"] == own.encode(each).ids
    assert found.decode(found(turn)["input_ids"]) == turn


@pytest.mark.slow
def test_a_question_through_the_shell(tmp_path: Path) -> None:
    """Config and tokenizer both name code of the repository; none is there, and none is asked for."""
    folder = tmp_path / "Qwen-7B-Chat"
    folder.mkdir()
    big = made()
    for name in ("transformer.wte.weight", "lm_head.weight"):
        big.weights[name] = big.weights[name].repeat(5, 1)[:472]
    write(folder, {**CONFIG, "vocab_size": 472, "seq_length": 8192, "max_position_embeddings": 8192}, big.weights)
    write_ranks(folder)
    surroundings = {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}

    def chatcli(*arguments: str) -> str:
        command = [sys.executable, "-m", "chatcli", *arguments, "-m", str(folder), "你 hello"]
        ran = subprocess.run(command, env=surroundings, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, b"")
        return ran.stdout.decode()

    ids = read_tokenizer(open_checkpoint(folder)).encode(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n你 hello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chatcli("tokens", "--chat", "--ids").split() == [str(each) for each in ids.ids]
    assert chatcli("ask", "--temperature", "0", "--max-tokens", "4").endswith("\n")
