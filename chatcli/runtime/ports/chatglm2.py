"""ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2-6B and GLM-4-9B in the format of their remote code, hosted by `GlmForCausalLM`.

The arithmetic is that of transformers' GLM: what differs are names, the fused query, key and value, and the keys of
config.json. The tensors of int8 and int4 versions are unpacked on load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM
from transformers.cache_utils import Cache, DynamicCache
from transformers.core_model_loading import WeightConverter, WeightRenaming
from transformers.modeling_outputs import CausalLMOutputWithPast

from chatcli.models.chatglm import told_variant
from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports.packed import SplitRows, Unpack
from chatcli.runtime.ports.ptuning import PrefixEncoder, with_prefix

_OTHER_ARITHMETIC = {
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "fp32_residual_connection": False,
    "original_rope": True,
}
"""Keys that no published checkpoint sets otherwise; the native class computes with these values."""


_SAME = (
    *("architectures", "bos_token_id", "dtype", "hidden_size", "num_attention_heads", "pre_seq_len"),
    *("prefix_projection", "quantization_bit", "torch_dtype", "use_cache"),
)
"""Keys that GLM's configuration calls as the published one does, and those of ours."""


class ChatGLM2Config(GlmConfig):
    """GLM's configuration, read from the published keys."""

    model_type = "chatglm"
    quantization_bit: int = 0
    pre_seq_len: int | None = None
    prefix_projection: bool = False

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from GLM's own where it has been translated before."""
        if "padded_vocab_size" in config_dict:
            config_dict = translated(config_dict, str(kwargs.get("name_or_path", "")))
        return super().from_dict(config_dict, **kwargs)


def translated(config: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """GLM's names for the published keys; `name` is the checkpoint's folder.

    Raises:
        ValueError: a key says that this model computes something else.
    """
    for key, value in _OTHER_ARITHMETIC.items():
        if config.get(key, value) != value:
            raise ValueError(f"config.json says {key} = {config[key]}: no published ChatGLM does; it is not supported")
    if not config.get("multi_query_attention"):
        raise ValueError("config.json says multi_query_attention = false: no published ChatGLM does; not supported")
    ratio = float(config.get("rope_ratio") or 1)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0 * ratio, "partial_rotary_factor": 0.5}
    if ratio != 1 and told_variant(config, Path(name)) == "chatglm2":
        # chatglm2-6b-32k alone interpolates positions; its successors, and what is not told to be it, raise the base.
        rope |= {"rope_type": "linear", "rope_theta": 10000.0, "factor": ratio}
    return {
        **{key: config[key] for key in _SAME if config.get(key) is not None},
        "model_type": "chatglm",
        "vocab_size": config["padded_vocab_size"],
        "intermediate_size": config["ffn_hidden_size"],
        "num_hidden_layers": config["num_layers"],
        "num_key_value_heads": config.get("multi_query_group_num", 1),
        "head_dim": config["kv_channels"],
        "rms_norm_eps": config.get("layernorm_epsilon", 1e-5),
        "max_position_embeddings": config.get("seq_length", 2048),
        "attention_bias": config.get("add_qkv_bias", False),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "rope_parameters": rope,
        "pad_token_id": config.get("pad_token_id"),
        # GLM's own default would end a reply with tokens of GLM-4.
        "eos_token_id": config["eos_token_id"] if config.get("eos_token_id") is not None else 2,
    }


class ChatGLM2ForCausalLM(GlmForCausalLM):
    """`GlmForCausalLM` under a name of its own, and with the prefix of P-tuned checkpoints."""

    config_class = ChatGLM2Config
    _keys_to_ignore_on_load_unexpected = [r"rotary_pos_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__(config)
        if config.pre_seq_len:
            shape = (config.num_hidden_layers, int(config.num_key_value_heads or 0), int(config.head_dim or 0))
            narrow = 2 * shape[0] * shape[1] * shape[2]
            hidden = config.hidden_size if config.prefix_projection else 0
            self.prefix_encoder = PrefixEncoder(config.pre_seq_len, shape, hidden=hidden, narrow=narrow)
            self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As the native class; a prefix goes into an empty cache first, and shifts no position."""
        cache = past_key_values if cache is None else cache
        prefix = getattr(self, "prefix_encoder", None)
        if prefix is not None and input_ids is not None:
            cache = DynamicCache() if cache is None else cache
            if not cache.get_seq_length():
                prefix.fill(cache, len(input_ids))
            attention_mask = with_prefix(attention_mask, prefix.length)
            if position_ids is None:
                first = cache.get_seq_length() - prefix.length
                position_ids = torch.arange(first, first + input_ids.shape[1], device=input_ids.device)[None]
        kwargs[CACHE] = cache
        out: CausalLMOutputWithPast = super().forward(
            input_ids, attention_mask, position_ids, logits_to_keep=logits_to_keep, **kwargs
        )
        return out


_LINEAR = {
    "self_attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
_FUSED = [f"self_attn.{part}_proj" for part in "qkv"]
WEIGHTS = [
    WeightRenaming(r"^transformer\.embedding\.word_embeddings\.", "model.embed_tokens."),
    WeightRenaming(r"^transformer\.encoder\.layers\.", "model.layers."),
    WeightRenaming(r"^transformer\.encoder\.final_layernorm\.", "model.norm."),
    WeightRenaming(r"^transformer\.output_layer\.", "lm_head."),
    WeightRenaming(r"^transformer\.prefix_encoder\.", "prefix_encoder."),
    *(
        WeightConverter([f"{theirs}.weight$", f"{theirs}.weight_scale$"], f"{ours}.weight", [Unpack()])
        for theirs, ours in _LINEAR.items()
    ),
    WeightConverter(
        ["self_attention.query_key_value.weight$", "self_attention.query_key_value.weight_scale$"],
        f"{_FUSED[0]}.weight",
        [Unpack(), SplitRows(*(f"{part}.weight" for part in _FUSED[1:]))],
    ),
    WeightConverter("self_attention.query_key_value.bias", [f"{part}.bias" for part in _FUSED], [SplitRows()]),
]
