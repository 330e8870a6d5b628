"""TeleChat, hosted by Llama: two of its seven projections have biases, and key and value are fused head by head.

Its rotary base is always that of the training length: 10000 * a^(d / (d - 2)) for heads of d, where a is 2^ceil(r) - 1
and r = log2(training length / base length) + 1. Past that length the original stretches further; that is not followed.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.core_model_loading import WeightRenaming

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.fused import split_heads
from chatcli.runtime.ports.piece_tokenizers import PIECE_TOKENIZERS
from chatcli.runtime.ports.published import renamed, rope

_KEYS = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "ffn_hidden_size": "intermediate_size",
    "layer_norm_epsilon": "rms_norm_eps",
    "training_seqlen": "max_position_embeddings",
}


class TeleChatConfig(LlamaConfig):
    """Llama's configuration, read from the published keys."""

    model_type = "telechat"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from Llama's own where it has been translated before.

        Raises:
            ValueError: a key says that this model computes something else.
        """
        if "n_head" in config_dict:
            for key in ("embed_layernorm", "apply_residual_connection_post_layernorm"):
                if config_dict.get(key):
                    raise ValueError(f"config.json says {key} = true: no published TeleChat does; not supported")
            width = config_dict["hidden_size"] // config_dict["n_head"]
            trained = config_dict.setdefault("training_seqlen", config_dict.get("seq_length", 8192))
            theta = rotary_base(width, trained, config_dict.get("base_seqlen", 4096))
            # transformers 4 tied the output to the embedding where config.json does not say otherwise.
            kept = {"tie_word_embeddings": True, **config_dict}
            for key in ("max_position_embeddings", "intermediate_size"):
                kept.pop(key, None)
            config_dict = renamed(kept, _KEYS, hidden_act="silu", rope_parameters=rope(theta))
        return super().from_dict(config_dict, **kwargs)


def rotary_base(width: int, trained: int, base: int) -> float:
    """The base of rotary positions for heads of a `width`; `trained` and `base` are lengths in tokens."""
    stretch = max(2 ** math.ceil(math.log2(trained / base) + 1) - 1, 1)
    return float(10000.0 * stretch ** (width / (width - 2)))


class TeleChatForCausalLM(LlamaForCausalLM):
    """Llama with biases where attention and feed-forward layer return to the residual stream."""

    config_class = TeleChatConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there

    def __init__(self, config: TeleChatConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.self_attn.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
            layer.mlp.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)


PORT = Port(
    TeleChatConfig,
    TeleChatForCausalLM,
    [
        # The 7B model is saved without the name of its trunk.
        WeightRenaming(r"^(?:transformer\.)?word_embeddings\.", "model.embed_tokens."),
        WeightRenaming(r"^(?:transformer\.)?ln_f\.", "model.norm."),
        WeightRenaming(r"^(?:transformer\.)?h\.", "model.layers."),
        WeightRenaming(r"\.self_attention\.query\.", ".self_attn.q_proj."),
        WeightRenaming(r"\.self_attention\.dense\.", ".self_attn.o_proj."),
        *split_heads(r"self_attention\.key_value", ["self_attn.k_proj", "self_attn.v_proj"]),
    ],
    tokenizers=PIECE_TOKENIZERS,
)
