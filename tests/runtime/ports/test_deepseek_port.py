"""DeepSeek-MoE against its plain formula, expert by expert and token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_formulas import (
    Random,
    angles,
    attend,
    difference,
    doubled,
    heads,
    linear,
    rms_norm,
    turn_halves,
    write,
)
from torch import Tensor
from torch.nn.functional import silu

from chatcli.models.checkpoint import context_length
from chatcli.models.plan import kv_bytes_per_token

CONFIG = {
    "model_type": "deepseek",
    "architectures": ["DeepseekForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.001,
    "bos_token_id": 100000,
    "eos_token_id": 100001,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "moe_intermediate_size": 24,
    "moe_layer_freq": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "vocab_size": 96,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm_topk_prob": True}, {"num_key_value_heads": 2, "n_shared_experts": 1, "first_k_dense_replace": 2}],
    ids=["published", "normalised", "grouped"],
)
def test_deepseek_moe(tmp_path: Path, changes: dict[str, object]) -> None:
    config = {**CONFIG, **changes}
    groups, shared = int(config["num_key_value_heads"]), int(config["n_shared_experts"])
    dense = int(config["first_k_dense_replace"])
    made = Random()

    def feed_forward(name: str, width: int) -> None:
        made.matrix(f"{name}.gate_proj", width, 64)
        made.matrix(f"{name}.up_proj", width, 64)
        made.matrix(f"{name}.down_proj", 64, width)

    made.embedding("model.embed_tokens", 96, 64)
    for i in range(3):
        h = f"model.layers.{i}"
        made.norm(f"{h}.input_layernorm", 64)
        made.norm(f"{h}.post_attention_layernorm", 64)
        made.matrix(f"{h}.self_attn.q_proj", 64, 64)
        made.matrix(f"{h}.self_attn.k_proj", groups * 16, 64)
        made.matrix(f"{h}.self_attn.v_proj", groups * 16, 64)
        made.matrix(f"{h}.self_attn.o_proj", 64, 64)
        if i < dense:
            feed_forward(f"{h}.mlp", 96)
            continue
        made.matrix(f"{h}.mlp.gate", 8, 64)
        feed_forward(f"{h}.mlp.shared_experts", 24 * shared)
        for expert in range(8):
            feed_forward(f"{h}.mlp.experts.{expert}", 24)
    made.norm("model.norm", 64)
    made.matrix("lm_head", 96, 64)

    def plain(ids: list[int]) -> Tensor:
        w = doubled(made.weights)

        def fed(name: str, y: Tensor) -> Tensor:
            return linear(
                w, f"{name}.down_proj", silu(linear(w, f"{name}.gate_proj", y)) * linear(w, f"{name}.up_proj", y)
            )

        def mixed(name: str, y: Tensor) -> Tensor:
            out = fed(f"{name}.shared_experts", y)
            for token, chances in enumerate(linear(w, f"{name}.gate", y).softmax(-1)):
                best = chances.sort(descending=True)
                total = best.values[:3].sum() if config["norm_topk_prob"] else 1
                for chance, expert in zip(best.values[:3], best.indices[:3].tolist(), strict=True):
                    out[token] += chance / total * fed(f"{name}.experts.{expert}", y[token])
            return out

        x, turn = w["model.embed_tokens.weight"][ids], angles(len(ids), 16)
        for i in range(3):
            h = f"model.layers.{i}"
            y = rms_norm(w, f"{h}.input_layernorm", x, 1e-6)
            q = turn_halves(heads(linear(w, f"{h}.self_attn.q_proj", y), 4), turn)
            k = turn_halves(heads(linear(w, f"{h}.self_attn.k_proj", y), groups), turn)
            x = x + linear(
                w, f"{h}.self_attn.o_proj", attend(q, k, heads(linear(w, f"{h}.self_attn.v_proj", y), groups))
            )
            y = rms_norm(w, f"{h}.post_attention_layernorm", x, 1e-6)
            x = x + (fed if i < dense else mixed)(f"{h}.mlp", y)
        return linear(w, "lm_head", rms_norm(w, "model.norm", x, 1e-6))

    assert difference(write(tmp_path, config, made.weights), plain) < 2e-4
    assert context_length(config) == 4096
    assert kv_bytes_per_token(config) == 2 * 3 * groups * 16 * 2
