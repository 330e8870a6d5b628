"""The model families that are read from GGUF files: a row each, with what llama.cpp writes otherwise than others do.

Names and values follow llama.cpp's converters and transformers' configurations. A family that is not here is refused.
It reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
"""The tensors outside the layers: llama.cpp's name, and that of transformers' checkpoints."""
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
"""The same within a layer."""
EXPERTS = {
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
"""Tensors that hold one weight for every expert, with the name of a single one."""
KEYS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
"""Entries of the metadata, and what config.json calls them."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family. `layer`, `experts` and `keys` come on top of what all share; `fixed` no file says.

    With `permuted`, the rows of queries and keys lie in the order of llama.cpp's rotary embedding, pairs side by
    side; with `offset`, norms are stored with one added. `wide` is the number of layers at which the family's
    attention is scaled by the width of the model instead of the head's.
    """

    model_type: str
    architecture: str
    permuted: bool = False
    offset: bool = False
    wide: int = 0
    layer: Mapping[str, str] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


_SANDWICHED = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_SOFT_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
}
_MIXTURE = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}

FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", "LlamaForCausalLM", permuted=True),
    "mixtral": Family(  # llama.cpp writes it as llama with experts
        "mixtral",
        "MixtralForCausalLM",
        permuted=True,
        layer={"ffn_gate_inp": "block_sparse_moe.gate"},
        experts={
            "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
            "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
            "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
        },
        keys={"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        fixed={"sliding_window": None},
    ),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": Family("qwen2_moe", "Qwen2MoeForCausalLM", keys=_MIXTURE),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": Family("qwen3_moe", "Qwen3MoeForCausalLM", keys=_MIXTURE, fixed={"norm_topk_prob": True}),
    "gemma": Family("gemma", "GemmaForCausalLM", offset=True),
    "gemma2": Family("gemma2", "Gemma2ForCausalLM", offset=True, wide=46, layer=_SANDWICHED, keys=_SOFT_CAPS),
    "gemma3": Family(
        "gemma3_text",
        "Gemma3ForCausalLM",
        offset=True,
        wide=62,
        layer=_SANDWICHED,
        keys={**_SOFT_CAPS, "rope.freq_base_swa": "rope_local_base_freq"},
    ),
    "phi3": Family(
        "phi3",
        "Phi3ForCausalLM",
        layer={"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
        keys={
            "rope.scaling.original_context_length": "original_max_position_embeddings",
            "attention.sliding_window": "sliding_window",
        },
    ),
    "granite": Family(
        "granite",
        "GraniteForCausalLM",
        permuted=True,
        keys={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
    ),
    "smollm3": Family("smollm3", "SmolLM3ForCausalLM", permuted=True),
    "olmo2": Family(
        "olmo2",
        "Olmo2ForCausalLM",
        layer={
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
    ),
    "command-r": Family(
        "cohere",
        "CohereForCausalLM",
        keys={"attention.layer_norm_epsilon": "layer_norm_eps", "logit_scale": "logit_scale"},
    ),
}
"""The rows, by the name in `general.architecture`."""
