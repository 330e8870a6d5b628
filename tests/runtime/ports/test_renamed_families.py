"""Families that a native class computes under other names: the class against the family's plain formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from plain_formulas import (
    Random,
    angles,
    attend,
    difference,
    doubled,
    heads,
    layer_norm,
    linear,
    rms_norm,
    turn_halves,
    turn_pairs,
    write,
)
from torch import Tensor
from torch.nn.functional import gelu, silu

from chatcli.models.checkpoint import context_length
from chatcli.models.plan import kv_bytes_per_token

LIMIT = 2e-4

EXAONE = {
    "model_type": "exaone",
    "architectures": ["ExaoneForCausalLM"],
    "activation_function": "silu",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 4096,
    "rope_theta": 500000.0,
    "vocab_size": 96,
    "embed_dropout": 0.0,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": 361,
}


@pytest.mark.parametrize("changes", [{}, {"head_dim": 12, "num_key_value_heads": 3}, {"tie_word_embeddings": True}])
def test_exaone(tmp_path: Path, changes: dict[str, object]) -> None:
    config = {**EXAONE, **changes}
    count, groups, width = 6, int(config["num_key_value_heads"]), int(config.get("head_dim", 8))
    made = Random()
    made.embedding("transformer.wte", 96, 48)
    for i in range(3):
        h, a = f"transformer.h.{i}", f"transformer.h.{i}.attn.attention"
        made.norm(f"{h}.ln_1", 48)
        made.norm(f"{h}.ln_2", 48)
        made.matrix(f"{a}.q_proj", count * width, 48)
        made.matrix(f"{a}.k_proj", groups * width, 48)
        made.matrix(f"{a}.v_proj", groups * width, 48)
        made.matrix(f"{a}.out_proj", 48, count * width)
        made.matrix(f"{h}.mlp.c_fc_0", 80, 48)
        made.matrix(f"{h}.mlp.c_fc_1", 80, 48)
        made.matrix(f"{h}.mlp.c_proj", 48, 80)
    made.norm("transformer.ln_f", 48)
    if not config.get("tie_word_embeddings"):
        made.matrix("lm_head", 96, 48)

    def plain(ids: list[int]) -> Tensor:
        w = doubled(made.weights)
        x, turn = w["transformer.wte.weight"][ids], angles(len(ids), width, 500000.0)
        for i in range(3):
            h, a = f"transformer.h.{i}", f"transformer.h.{i}.attn.attention"
            y = rms_norm(w, f"{h}.ln_1", x, 1e-5)
            q = turn_halves(heads(linear(w, f"{a}.q_proj", y), count), turn)
            k = turn_halves(heads(linear(w, f"{a}.k_proj", y), groups), turn)
            x = x + linear(w, f"{a}.out_proj", attend(q, k, heads(linear(w, f"{a}.v_proj", y), groups)))
            y = rms_norm(w, f"{h}.ln_2", x, 1e-5)
            gate = silu(linear(w, f"{h}.mlp.c_fc_0", y))
            x = x + linear(w, f"{h}.mlp.c_proj", gate * linear(w, f"{h}.mlp.c_fc_1", y))
        x = rms_norm(w, "transformer.ln_f", x, 1e-5)
        return linear(w, "transformer.wte" if config.get("tie_word_embeddings") else "lm_head", x)

    assert difference(write(tmp_path, config, made.weights), plain) < LIMIT
    assert context_length(config) == 4096
    assert kv_bytes_per_token(config) == 2 * 3 * groups * width * 2


STABLELM = {
    "model_type": "stablelm_epoch",
    "architectures": ["StableLMEpochForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 4,
    "norm_eps": 1e-5,
    "rope_pct": 0.25,
    "rope_theta": 10000,
    "rotary_scaling_factor": 1.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "vocab_size": 96,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


@pytest.mark.parametrize("changes", [{}, {"use_qkv_bias": True, "rope_pct": 0.5, "num_key_value_heads": 2}])
def test_stablelm_epoch(tmp_path: Path, changes: dict[str, object]) -> None:
    config = {**STABLELM, **changes}
    groups, turned, bias = (
        int(config["num_key_value_heads"]),
        int(16 * config["rope_pct"]),
        bool(config["use_qkv_bias"]),
    )
    made = Random()
    made.embedding("model.embed_tokens", 96, 64)
    for i in range(2):
        h = f"model.layers.{i}"
        made.norm(f"{h}.input_layernorm", 64, bias=True)
        made.norm(f"{h}.post_attention_layernorm", 64, bias=True)
        made.matrix(f"{h}.self_attn.q_proj", 64, 64, bias=bias)
        made.matrix(f"{h}.self_attn.k_proj", groups * 16, 64, bias=bias)
        made.matrix(f"{h}.self_attn.v_proj", groups * 16, 64, bias=bias)
        made.matrix(f"{h}.self_attn.o_proj", 64, 64)
        made.matrix(f"{h}.mlp.gate_proj", 96, 64)
        made.matrix(f"{h}.mlp.up_proj", 96, 64)
        made.matrix(f"{h}.mlp.down_proj", 64, 96)
    made.norm("model.norm", 64, bias=True)
    made.matrix("lm_head", 96, 64)

    def plain(ids: list[int]) -> Tensor:
        w = doubled(made.weights)
        x, turn = w["model.embed_tokens.weight"][ids], angles(len(ids), turned)
        for i in range(2):
            h = f"model.layers.{i}"
            y = layer_norm(w, f"{h}.input_layernorm", x, 1e-5)
            q = turn_halves(heads(linear(w, f"{h}.self_attn.q_proj", y), 4), turn)
            k = turn_halves(heads(linear(w, f"{h}.self_attn.k_proj", y), groups), turn)
            v = heads(linear(w, f"{h}.self_attn.v_proj", y), groups)
            x = x + linear(w, f"{h}.self_attn.o_proj", attend(q, k, v))
            y = layer_norm(w, f"{h}.post_attention_layernorm", x, 1e-5)
            gate = silu(linear(w, f"{h}.mlp.gate_proj", y))
            x = x + linear(w, f"{h}.mlp.down_proj", gate * linear(w, f"{h}.mlp.up_proj", y))
        return linear(w, "lm_head", layer_norm(w, "model.norm", x, 1e-5))

    assert difference(write(tmp_path, config, made.weights), plain) < LIMIT
    assert context_length(config) == 4096
    assert kv_bytes_per_token(config) == 2 * 2 * groups * 16 * 2


FALCON_7B = {
    "model_type": "RefinedWebModel",
    "architectures": ["RWForCausalLM"],
    "alibi": False,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "bias": False,
    "bos_token_id": 11,
    "eos_token_id": 11,
    "hidden_dropout": 0.0,
    "hidden_size": 64,
    "layer_norm_epsilon": 1e-5,
    "multi_query": True,
    "n_head": 4,
    "n_layer": 2,
    "parallel_attn": True,
    "use_cache": True,
    "vocab_size": 96,
}
FALCON_40B = {**FALCON_7B, "model_type": "RefinedWeb", "n_head_kv": 2}
del FALCON_40B["multi_query"]


@pytest.mark.parametrize("config", [FALCON_7B, FALCON_40B], ids=["7b", "40b"])
def test_first_falcons(tmp_path: Path, config: dict[str, object]) -> None:
    """In the 40B each group of heads has its key and value behind its queries, and two norms stand side by side."""
    groups = int(config.get("n_head_kv", 1))
    norms = ("ln_attn", "ln_mlp") if "n_head_kv" in config else ("input_layernorm",)
    made = Random()
    made.embedding("transformer.word_embeddings", 96, 64)
    for i in range(2):
        h = f"transformer.h.{i}"
        for norm in norms:
            made.norm(f"{h}.{norm}", 64, bias=True)
        made.matrix(f"{h}.self_attention.query_key_value", 64 + 2 * groups * 16, 64)
        made.matrix(f"{h}.self_attention.dense", 64, 64)
        made.matrix(f"{h}.mlp.dense_h_to_4h", 256, 64)
        made.matrix(f"{h}.mlp.dense_4h_to_h", 64, 256)
    made.norm("transformer.ln_f", 64, bias=True)
    made.weights["lm_head.weight"] = made.weights["transformer.word_embeddings.weight"].clone()

    def plain(ids: list[int]) -> Tensor:
        w = doubled(made.weights)
        x, turn = w["transformer.word_embeddings.weight"][ids], angles(len(ids), 16)
        for i in range(2):
            h = f"transformer.h.{i}"
            y = layer_norm(w, f"{h}.{norms[0]}", x, 1e-5)
            z = layer_norm(w, f"{h}.{norms[-1]}", x, 1e-5)
            parts = linear(w, f"{h}.self_attention.query_key_value", y).view(len(ids), groups, -1, 16)
            q = parts[:, :, :-2].flatten(1, 2).transpose(0, 1)
            k, v = parts[:, :, -2].transpose(0, 1), parts[:, :, -1].transpose(0, 1)
            seen = attend(turn_halves(q, turn), turn_halves(k, turn), v)
            inner = gelu(linear(w, f"{h}.mlp.dense_h_to_4h", z))
            x = x + linear(w, f"{h}.self_attention.dense", seen) + linear(w, f"{h}.mlp.dense_4h_to_h", inner)
        return linear(w, "lm_head", layer_norm(w, "transformer.ln_f", x, 1e-5))

    assert difference(write(tmp_path, config, made.weights), plain) < LIMIT
    assert context_length(config) == 2048
    assert kv_bytes_per_token(config) == 2 * 2 * groups * 16 * 2


MOSS = {
    "model_type": "moss",
    "architectures": ["MossForCausalLM"],
    "activation_function": "gelu_new",
    "attn_pdrop": 0.0,
    "bos_token_id": 106028,
    "eos_token_id": 106068,
    "embd_pdrop": 0.0,
    "gradient_checkpointing": False,
    "layer_norm_epsilon": 1e-5,
    "n_ctx": 2048,
    "n_embd": 64,
    "n_head": 4,
    "n_inner": None,
    "n_layer": 2,
    "n_positions": 2048,
    "resid_pdrop": 0.0,
    "rotary_dim": 8,
    "scale_attn_weights": True,
    "tie_word_embeddings": False,
    "tokenizer_class": "MossTokenizer",
    "vocab_size": 96,
    "wbits": 32,
    "groupsize": 128,
}


@pytest.mark.parametrize("changes", [{}, {"n_head": 8, "rotary_dim": 4}])
def test_moss(tmp_path: Path, changes: dict[str, object]) -> None:
    """Fused rows: four shards, in each the queries, then the values, then the keys of a quarter of the heads."""
    config = {**MOSS, **changes}
    count, turned = int(config["n_head"]), int(config["rotary_dim"])
    made = Random()
    made.embedding("transformer.wte", 96, 64)
    for i in range(2):
        h = f"transformer.h.{i}"
        made.norm(f"{h}.ln_1", 64, bias=True)
        made.matrix(f"{h}.attn.qkv_proj", 192, 64)
        made.matrix(f"{h}.attn.out_proj", 64, 64)
        made.matrix(f"{h}.mlp.fc_in", 256, 64, bias=True)
        made.matrix(f"{h}.mlp.fc_out", 64, 256, bias=True)
    made.norm("transformer.ln_f", 64, bias=True)
    made.matrix("lm_head", 96, 64, bias=True)

    def plain(ids: list[int]) -> Tensor:
        w = doubled(made.weights)
        x, turn = w["transformer.wte.weight"][ids], angles(len(ids), turned)
        for i in range(2):
            h = f"transformer.h.{i}"
            y = layer_norm(w, f"{h}.ln_1", x, 1e-5)
            shards = linear(w, f"{h}.attn.qkv_proj", y).view(len(ids), 4, 3, 16)
            q, v, k = (heads(shards[:, :, part].flatten(1), count) for part in range(3))
            seen = attend(turn_pairs(q, turn), turn_pairs(k, turn), v)
            inner = gelu(linear(w, f"{h}.mlp.fc_in", y), approximate="tanh")
            x = x + linear(w, f"{h}.attn.out_proj", seen) + linear(w, f"{h}.mlp.fc_out", inner)
        return linear(w, "lm_head", layer_norm(w, "transformer.ln_f", x, 1e-5))

    weights = made.weights | {"transformer.h.0.attn.causal_mask": torch.ones(1, 1, 8, 8).bool()}
    assert difference(write(tmp_path, config, weights), plain) < LIMIT
    assert context_length(config) == 2048
    assert kv_bytes_per_token(config) == 2 * 2 * 64 * 2


def test_moss_reads_its_vocabulary(tmp_path: Path) -> None:
    """GPT-2's bytes and words; the added tokens, which end the parts of a turn, stay whole."""
    from transformers import AutoTokenizer

    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.runtime import ports
    from chatcli.runtime.load import load_tokenizer

    letters = [chr(n) for n in range(33, 127)] + ["\u0120", "\u010a", "he", "ll", "hell", "hello", "\u0120w"]
    ids = {text: number for number, text in enumerate(["<|endoftext|>", *letters])}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\nhell o\n\u0120 w\n", encoding="utf-8")
    last = len(ids)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<eoh>": last, "<eom>": last + 1, "<|Human|>": last + 2}))
    auto_map = {"AutoTokenizer": ["tokenization_moss.MossTokenizer", None]}
    table = {"tokenizer_class": "MossTokenizer", "auto_map": auto_map, "eos_token": "<eom>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(table))
    write(tmp_path, MOSS, {})
    ports.register()
    text = "<|Human|>: hello w<eoh>\n"
    expected = [last + 2, ids[":"], ids["\u0120"], ids["hello"], ids["\u0120w"], last, ids["\u010a"]]
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert found(text)["input_ids"] == expected
    assert found.decode(expected) == text
    assert load_tokenizer(open_checkpoint(tmp_path)).encode(text, add_special_tokens=False).ids == expected
