"""Orion-14B, hosted by `StableLmForCausalLM`: Llama's layers with LayerNorm in place of RMSNorm."""

from __future__ import annotations

from typing import Any

from transformers import StableLmConfig, StableLmForCausalLM

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.piece_tokenizers import PIECE_TOKENIZERS
from chatcli.runtime.ports.published import renamed


class OrionConfig(StableLmConfig):
    """StableLM's configuration, read from the published keys."""

    model_type = "orion"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from StableLM's own where it has been translated before.

        Raises:
            ValueError: its attention has biases, as no published Orion has.
        """
        if "rms_norm_eps" in config_dict:
            if config_dict.get("attention_bias"):
                raise ValueError("config.json says attention_bias = true: no published Orion does; not supported")
            config_dict = renamed(
                config_dict,
                {"rms_norm_eps": "layer_norm_eps"},
                partial_rotary_factor=1.0,
                num_key_value_heads=config_dict.get("num_key_value_heads") or config_dict["num_attention_heads"],
            )
        return super().from_dict(config_dict, **kwargs)


class OrionForCausalLM(StableLmForCausalLM):
    """`StableLmForCausalLM` under a name of its own."""

    config_class = OrionConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there


PORT = Port(OrionConfig, OrionForCausalLM, tokenizers=PIECE_TOKENIZERS)
