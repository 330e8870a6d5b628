"""MiniCPM-1B and -2B, hosted by `GraniteForCausalLM`, which has a factor at each place where MiniCPM has one.

Embeddings times `scale_emb`; what a layer adds, times `scale_depth` / sqrt(layers); the last hidden state, or just as
well the logits, divided by `hidden_size` / `dim_model_base`.
"""

from __future__ import annotations

import math
from typing import Any

from transformers import GraniteConfig, GraniteForCausalLM

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed


class MiniCPMConfig(GraniteConfig):
    """Granite's configuration, read from the published keys."""

    model_type = "minicpm"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from Granite's own where it has been translated before.

        Raises:
            ValueError: this MiniCPM has experts or sparse attention.
        """
        for key in ("num_experts", "sparse_config"):
            if config_dict.get(key):
                raise ValueError(
                    f"config.json says {key}: not supported; use a dense one such as openbmb/MiniCPM-2B-sft-bf16"
                )
        if "scale_emb" in config_dict:
            width, heads = config_dict["hidden_size"], config_dict["num_attention_heads"]
            config_dict = renamed(
                {"tie_word_embeddings": True, **config_dict},
                {"scale_emb": "embedding_multiplier"},
                residual_multiplier=config_dict["scale_depth"] / math.sqrt(config_dict["num_hidden_layers"]),
                logits_scaling=width / config_dict["dim_model_base"],
                attention_multiplier=1 / math.sqrt(width // heads),
            )
        return super().from_dict(config_dict, **kwargs)


class MiniCPMForCausalLM(GraniteForCausalLM):
    """`GraniteForCausalLM` under a name of its own."""

    config_class = MiniCPMConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there


PORT = Port(MiniCPMConfig, MiniCPMForCausalLM)
