"""Families that are Llama but for names, fused matrices, biases, factors or ALiBi: the class against the formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_formula import HEADS, INNER, LAYERS, LLAMA, NAMES, SIZES, VOCABULARY, WIDTH, Formula, make
from plain_formulas import Weights, difference, heads, layer_norm, linear, loaded, write
from torch import Tensor

from chatcli.models.checkpoint import context_length
from chatcli.models.plan import kv_bytes_per_token

LIMIT = 2e-4


def check(
    folder: Path, config: Mapping[str, Any], weights: Weights, formula: Formula, ids: list[int] | None = None
) -> None:
    write(folder, config, weights)
    largest = difference(folder, lambda given: formula(weights, given), **({"ids": ids} if ids else {}))
    assert largest < LIMIT


def cache_bytes(groups: int) -> int:
    """Keys and values of one token in 16 bits."""
    return 2 * LAYERS * groups * (WIDTH // HEADS) * 2


NAMED = {
    "xverse": ({"model_type": "xverse", "max_position_embeddings": 8192}, HEADS, 10000.0),
    "xverse-later": (
        {"model_type": "xverse", "max_position_embeddings": 8192, "rope_theta": 500000.0},
        HEADS,
        500000.0,
    ),
    "yi": ({"model_type": "Yi", "max_position_embeddings": 4096, "num_key_value_heads": 2}, 2, 5000000.0),
    "yi-200k": (
        {"model_type": "Yi", "max_position_embeddings": 200000, "num_key_value_heads": 2, "rope_theta": 10000000.0},
        2,
        10000000.0,
    ),
    "aquila": ({"model_type": "aquila", "max_position_embeddings": 2048}, HEADS, 10000.0),
    "aquila2-34b": ({"model_type": "aquila", "max_position_embeddings": 4096, "num_key_value_heads": 2}, 2, 10000.0),
    "skywork": ({"model_type": "skywork", "max_position_embeddings": 4096}, HEADS, 10000.0),
    "internlm-20b": ({"model_type": "internlm", "max_position_embeddings": 4096, "bias": False}, HEADS, 10000.0),
}


@pytest.mark.parametrize("family", NAMED)
def test_named(tmp_path: Path, family: str) -> None:
    keys, groups, theta = NAMED[family]
    names = dict(NAMES)
    if family == "yi":  # the earliest files
        names |= {"before": "model.layers.{}.ln1", "between": "model.layers.{}.ln2"}
    config = {**LLAMA, **keys}
    weights = make(names, groups=groups)
    weights |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(LAYERS)}
    check(tmp_path, config, weights, Formula(names, groups, theta))
    assert context_length(config) == keys["max_position_embeddings"]
    assert kv_bytes_per_token(config) == cache_bytes(groups)


@pytest.mark.parametrize("rotary", [None, {"base": 20000, "type": "dynamic"}])
def test_internlm_7b(tmp_path: Path, rotary: dict[str, Any] | None) -> None:
    config = {**LLAMA, "model_type": "internlm", "bias": True, "max_position_embeddings": 2048}
    config |= {"rotary": rotary} if rotary else {}
    weights = make(NAMES, biases=("q", "k", "v", "out"))
    check(tmp_path, config, weights, Formula(NAMES, theta=float(rotary["base"]) if rotary else 10000.0))
    assert context_length(config) == 2048
    assert kv_bytes_per_token(config) == cache_bytes(HEADS)


INTERNLM2 = {
    "embedding": "model.tok_embeddings",
    "before": "model.layers.{}.attention_norm",
    "fused": "model.layers.{}.attention.wqkv",
    "out": "model.layers.{}.attention.wo",
    "between": "model.layers.{}.ffn_norm",
    "gate": "model.layers.{}.feed_forward.w1",
    "up": "model.layers.{}.feed_forward.w3",
    "down": "model.layers.{}.feed_forward.w2",
    "last": "model.norm",
    "head": "output",
}


def grouped(groups: int) -> Callable[[Weights, str, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """InternLM2's rows: for each key the queries that share it, the key, the value."""

    def qkv(w: Weights, name: str, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        share = HEADS // groups
        rows = linear(w, name, y).view(len(y), groups, share + 2, WIDTH // HEADS)
        q = rows[:, :, :share].flatten(1, 2).transpose(0, 1)
        return q, rows[:, :, share].transpose(0, 1), rows[:, :, share + 1].transpose(0, 1)

    return qkv


@pytest.mark.parametrize(("groups", "bias"), [(2, False), (1, True), (HEADS, False)])
def test_internlm2(tmp_path: Path, groups: int, bias: bool) -> None:
    config = {**LLAMA, "model_type": "internlm2", "bias": bias, "num_key_value_heads": groups}
    config |= {"rope_theta": 1000000, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64}
    fused = (HEADS + 2 * groups) * WIDTH // HEADS
    weights = make(INTERNLM2, fused=fused, groups=groups, biases=("fused", "out") if bias else ())
    check(tmp_path, config, weights, Formula(INTERNLM2, groups, 1000000.0, qkv=grouped(groups)))
    assert context_length(config) == 64
    assert kv_bytes_per_token(config) == cache_bytes(groups)


def test_internlm2_stretches_its_positions_past_the_trained_length(tmp_path: Path) -> None:
    """Dynamic NTK: past 64 positions the base grows with the length, by (2 * n / 64 - 1)^(d / (d - 2))."""
    config = {**LLAMA, "model_type": "internlm2", "bias": False, "num_key_value_heads": 2}
    config |= {"rope_theta": 1000000, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64}
    weights = make(INTERNLM2, fused=(HEADS + 4) * WIDTH // HEADS, groups=2)
    ids = [(7 * i + 3) % VOCABULARY for i in range(100)]
    width = WIDTH // HEADS
    theta = 1000000.0 * (2 * len(ids) / 64 - 1) ** (width / (width - 2))
    model = loaded(write(tmp_path, config, weights))
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([ids])).logits[0].double()
    expected = Formula(INTERNLM2, 2, theta, qkv=grouped(2))(weights, ids)
    plain = Formula(INTERNLM2, 2, 1000000.0, qkv=grouped(2))(weights, ids)
    assert (found - expected).abs().max() < LIMIT
    assert (plain - expected).abs().max() > 0.01, "the base does not matter here"


PACKED = {key: name for key, name in NAMES.items() if key not in "qkv"} | {"fused": "model.layers.{}.self_attn.W_pack"}


def packed(w: Weights, name: str, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (heads(part, HEADS) for part in linear(w, name, y).split(WIDTH, dim=1))
    return q, k, v


def of_length_1(weights: Weights) -> Weights:
    rows = weights["lm_head.weight"].double()
    return weights | {"lm_head.weight": rows / rows.square().sum(1, keepdim=True).sqrt()}


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_baichuan(tmp_path: Path, second: bool, positions: str) -> None:
    config: dict[str, Any] = {**LLAMA, "model_type": "baichuan", "model_max_length": 4096}
    config |= {"z_loss_weight": 0} if second else {}
    config |= {"max_position_embeddings": 4096} if positions == "rotary" else {}
    slopes = () if positions == "rotary" else (1 / 4, 1 / 16, 1 / 64, 1 / 256)
    weights = make(PACKED, fused=3 * WIDTH)
    if second:
        weights["lm_head.weight"] *= 7
    write(tmp_path, config, weights)
    formula, computed = Formula(PACKED, slopes=slopes, qkv=packed), of_length_1(weights) if second else weights
    assert difference(tmp_path, lambda ids: formula(computed, ids)) < LIMIT
    assert context_length(config) == 4096
    assert kv_bytes_per_token(config) == cache_bytes(HEADS)


@pytest.mark.parametrize(
    ("heads_", "expected"),
    [(2, [2**-4, 2**-8]), (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])],
)
def test_alibi_slopes(heads_: int, expected: list[float]) -> None:
    """As the paper has them: between two powers of two, the odd ones of the next power fill up."""
    from chatcli.runtime.ports.baichuan import slopes

    assert slopes(heads_) == expected
    assert len(slopes(40)) == 40


def test_alibi_leaves_padding_out(tmp_path: Path) -> None:
    """A padded batch says what each text says alone, and goes on generating so."""
    config = {**LLAMA, "model_type": "baichuan", "model_max_length": 4096}
    model = loaded(write(tmp_path, config, make(PACKED, fused=3 * WIDTH)))
    long, short = [5, 17, 3, 60, 41], [9, 30]
    padded = torch.tensor([long, [0] * 3 + short])
    mask = torch.tensor([[1] * 5, [0] * 3 + [1] * 2])
    with torch.inference_mode():
        together = model(input_ids=padded, attention_mask=mask).logits[1, -1]
        alone = model(input_ids=torch.tensor([short])).logits[0, -1]
    assert (together - alone).abs().max() < LIMIT
    generated = model.generate(padded, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None)
    single = model.generate(torch.tensor([short]), max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert generated[1, 5:].tolist() == single[0, 2:].tolist()


def test_alibi_in_chunks_over_the_cache(tmp_path: Path) -> None:
    """A prompt read in two pieces says what it says in one."""
    from chatcli.runtime.kv import CACHE

    config = {**LLAMA, "model_type": "baichuan", "model_max_length": 4096}
    model = loaded(write(tmp_path, config, make(PACKED, fused=3 * WIDTH)))
    ids = torch.tensor([[5, 17, 3, 60, 41, 8, 90, 11]])
    with torch.inference_mode():
        whole = model(input_ids=ids).logits
        first = model(input_ids=ids[:, :3], use_cache=True)
        rest = model(input_ids=ids[:, 3:], use_cache=True, **{CACHE: getattr(first, CACHE)}).logits
    assert (whole[:, 3:] - rest).abs().max() < LIMIT


@pytest.mark.parametrize("tied", [True, False])
def test_minicpm(tmp_path: Path, tied: bool) -> None:
    keys = {key: value for key, value in LLAMA.items() if key != "tie_word_embeddings"}
    config: dict[str, Any] = {
        **keys,
        "model_type": "minicpm",
        "max_position_embeddings": 2048,
        "num_key_value_heads": 2,
    }
    config |= {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16}
    config |= {} if tied else {"tie_word_embeddings": False}
    names = NAMES | ({"head": NAMES["embedding"]} if tied else {})
    weights = make(names, groups=2, tied=tied)
    weights["model.embed_tokens.weight"] /= 12
    formula = Formula(names, 2, embedding=12, residual=1.4 / math.sqrt(LAYERS), logits=WIDTH / 16)
    check(tmp_path, config, weights, formula)
    assert context_length(config) == 2048
    assert kv_bytes_per_token(config) == cache_bytes(2)


def test_minicpm4_within_its_trained_length(tmp_path: Path) -> None:
    """Its config.json divides every rotary frequency by a short factor there; the length it scales to is the same."""
    short = (1.0, 1.1, 1.5, 2.0, 3.0, 4.0)
    longrope = {"rope_type": "longrope", "long_factor": [2 * each for each in short], "short_factor": list(short)}
    config = {**LLAMA, "model_type": "minicpm", "max_position_embeddings": 64, "num_key_value_heads": 2}
    config |= {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16, "mup_denominator": 32}
    config |= {"rope_scaling": {**longrope, "original_max_position_embeddings": 64}}
    weights = make(NAMES, groups=2)
    weights["model.embed_tokens.weight"] /= 12
    weights["lm_head.weight"] *= 3
    factors = {"embedding": 12.0, "residual": 1.4 / math.sqrt(LAYERS), "logits": WIDTH / 16}
    check(tmp_path, config, weights, Formula(NAMES, 2, divisors=short, **factors))


def test_orion(tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "orion", "max_position_embeddings": 4096, "rope_theta": 20000.0}
    weights = make(NAMES, norm_bias=True)
    check(tmp_path, config, weights, Formula(NAMES, theta=20000.0, norm=layer_norm))
    assert context_length(config) == 4096
    assert kv_bytes_per_token(config) == cache_bytes(HEADS)


TELECHAT = {
    "embedding": "word_embeddings",
    "before": "h.{}.input_layernorm",
    "q": "h.{}.self_attention.query",
    "fused": "h.{}.self_attention.key_value",
    "out": "h.{}.self_attention.dense",
    "between": "h.{}.post_attention_layernorm",
    "gate": "h.{}.mlp.gate_proj",
    "up": "h.{}.mlp.up_proj",
    "down": "h.{}.mlp.down_proj",
    "last": "ln_f",
    "head": "lm_head",
}


@pytest.mark.parametrize("tied", [True, False])
def test_telechat(tmp_path: Path, tied: bool) -> None:
    """The 7B model is tied and saved without "transformer."; the 12B model is neither. Both stretch the base by 3."""
    prefix = "" if tied else "transformer."
    names = {key: name if key == "head" else prefix + name for key, name in TELECHAT.items()}
    names |= {"head": names["embedding"]} if tied else {}
    config: dict[str, Any] = {**SIZES, "model_type": "telechat", "n_layer": LAYERS, "n_head": HEADS}
    config |= {"ffn_hidden_size": INNER, "layer_norm_epsilon": 1e-5, "seq_length": 8192, "training_seqlen": 8192}
    config |= {"embed_layernorm": False, "apply_residual_connection_post_layernorm": False, "pad_token_id": 3}
    config |= {} if tied else {"tie_word_embeddings": False}
    width = WIDTH // HEADS

    def qkv(w: Weights, name: str, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = linear(w, name, y).view(len(y), HEADS, 2, width)
        q = heads(linear(w, name.replace("key_value", "query"), y), HEADS)
        return q, rows[:, :, 0].transpose(0, 1), rows[:, :, 1].transpose(0, 1)

    weights = make(names, fused=2 * WIDTH, biases=("out", "down"), tied=tied)
    check(tmp_path, config, weights, Formula(names, theta=10000.0 * 3 ** (width / (width - 2)), qkv=qkv))
    assert context_length(config) == 8192
    assert kv_bytes_per_token(config) == cache_bytes(HEADS)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "xverse", "num_experts": 8}, "experts"),
        ({"model_type": "minicpm", "num_experts": 8}, "num_experts"),
        ({"model_type": "orion", "attention_bias": True}, "attention_bias"),
        ({"model_type": "telechat", "n_head": 4, "embed_layernorm": True}, "embed_layernorm"),
    ],
)
def test_other_arithmetic_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    from transformers import AutoConfig

    from chatcli.runtime import ports

    ports.register()
    write(tmp_path, {**LLAMA, **config}, {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match=said):
        AutoConfig.from_pretrained(tmp_path)
