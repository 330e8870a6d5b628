"""Families that are Llama by another name: InternLM, InternLM2, XVERSE, early Yi, Aquila, Skywork.

Their published files differ from Llama's in keys of config.json, in names of weights, and InternLM2 in fusing query,
key and value. `LlamaForCausalLM` computes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM
from transformers.core_model_loading import WeightRenaming

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.fused import split_heads
from chatcli.runtime.ports.piece_tokenizers import PIECE_TOKENIZERS
from chatcli.runtime.ports.published import renamed

_EXPERTS = ("num_experts", "n_shared_experts", "num_local_experts", "moe_expert_num")


class NamedConfig(LlamaConfig):
    """Llama's configuration, read from the published keys of a family."""

    @staticmethod
    def translated(config: dict[str, Any]) -> dict[str, Any]:
        """Llama's configuration for the published one, and for one that was translated before."""
        return renamed(config)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the published keys, or from Llama's own.

        Raises:
            ValueError: it is a model of experts, as XVERSE has under the same `model_type`.
        """
        if found := [key for key in _EXPERTS if config_dict.get(key)]:
            raise ValueError(
                f"config.json says {found[0]}: models of experts have other layers; use a dense one of the family"
            )
        return super().from_dict(cls.translated(config_dict), **kwargs)


def llama(
    name: str, model_type: str, keys: Callable[[dict[str, Any]], dict[str, Any]] = renamed, weights: Sequence[Any] = ()
) -> Port:
    """The port of a family under its published `model_type`, hosted by Llama.

    `keys` translates its configuration, see `NamedConfig.translated`; `weights` are the loader's renamings and
    conversions.
    """
    config = type(f"{name}Config", (NamedConfig,), {"model_type": model_type, "translated": staticmethod(keys)})
    ignored = [r"rotary_emb\.inv_freq$"]
    more = {"config_class": config, "_keys_to_ignore_on_load_unexpected": ignored}
    return Port(config, type(f"{name}ForCausalLM", (LlamaForCausalLM,), more), weights)


def _internlm(config: dict[str, Any]) -> dict[str, Any]:
    """`bias` is on all four projections; `rotary` appeared with the second release of the weights."""
    keys = renamed(config, {"bias": "attention_bias"})
    rotary = keys.pop("rotary", None)
    if rotary:
        keys["rope_theta"] = float(rotary.get("base", 10000))
        if rotary.get("type") == "dynamic":
            keys["rope_scaling"] = {"rope_type": "dynamic", "factor": float(rotary.get("scaling_factor", 1.0))}
    return keys


def _internlm2(config: dict[str, Any]) -> dict[str, Any]:
    return renamed(config, {"bias": "attention_bias"})


def _yi(config: dict[str, Any]) -> dict[str, Any]:
    """The code of the earliest files has a base of its own where config.json says none."""
    return renamed(config) if "rope_parameters" in config else {"rope_theta": 5000000.0, **renamed(config)}


_QKV = [f"self_attn.{part}_proj" for part in "qkv"]
_FAMILIES = [
    llama("InternLM", "internlm", _internlm),
    llama(
        "InternLM2",
        "internlm2",
        _internlm2,
        [
            WeightRenaming(r"^model\.tok_embeddings\.", "model.embed_tokens."),
            WeightRenaming(r"^output\.", "lm_head."),
            WeightRenaming(r"\.attention_norm\.", ".input_layernorm."),
            WeightRenaming(r"\.ffn_norm\.", ".post_attention_layernorm."),
            WeightRenaming(r"\.attention\.wo\.", ".self_attn.o_proj."),
            WeightRenaming(r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
            WeightRenaming(r"\.feed_forward\.w3\.", ".mlp.up_proj."),
            WeightRenaming(r"\.feed_forward\.w2\.", ".mlp.down_proj."),
            *split_heads(r"attention\.wqkv", _QKV),
        ],
    ),
    llama("Xverse", "xverse"),
    llama(
        "Yi",
        "Yi",
        _yi,
        [
            WeightRenaming(r"\.ln1\.", ".input_layernorm."),
            WeightRenaming(r"\.ln2\.", ".post_attention_layernorm."),
        ],
    ),
    llama("Aquila", "aquila"),
    llama("Skywork", "skywork"),
]

PORT = Port(_FAMILIES[0].config, tokenizers=PIECE_TOKENIZERS, variants=_FAMILIES)
