"""EXAONE 3.0 and 3.5 by their published files, hosted by `LlamaForCausalLM`: other names, the same arithmetic.

`c_fc_0` is the gate of the feed-forward layer and `c_fc_1` what it gates.
"""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM
from transformers.core_model_loading import WeightRenaming

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed, rope

_KEYS = {
    "num_layers": "num_hidden_layers",
    "layer_norm_epsilon": "rms_norm_eps",
    "activation_function": "hidden_act",
}


class ExaoneConfig(LlamaConfig):
    """Llama's configuration, read from the published keys."""

    model_type = "exaone"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from Llama's own."""
        if "num_layers" in config_dict:
            scaling = config_dict.get("rope_scaling") or {}
            theta = config_dict.get("rope_theta", 10000)
            config_dict = renamed(config_dict, _KEYS, rope_parameters=rope(theta, **scaling), rope_scaling=None)
        return super().from_dict(config_dict, **kwargs)


class ExaoneForCausalLM(LlamaForCausalLM):
    """`LlamaForCausalLM` under a name of its own."""

    config_class = ExaoneConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary.*inv_freq$"]  # noqa: RUF012 -- a class variable there


PORT = Port(
    ExaoneConfig,
    ExaoneForCausalLM,
    [
        WeightRenaming(r"^transformer\.wte\.", "model.embed_tokens."),
        WeightRenaming(r"^transformer\.ln_f\.", "model.norm."),
        WeightRenaming(r"^transformer\.h\.", "model.layers."),
        WeightRenaming(r"\.attn\.attention\.out_proj\.", ".self_attn.o_proj."),
        WeightRenaming(r"\.attn\.attention\.", ".self_attn."),
        WeightRenaming(r"\.ln_1\.", ".input_layernorm."),
        WeightRenaming(r"\.ln_2\.", ".post_attention_layernorm."),
        WeightRenaming(r"\.mlp\.c_fc_0\.", ".mlp.gate_proj."),
        WeightRenaming(r"\.mlp\.c_fc_1\.", ".mlp.up_proj."),
        WeightRenaming(r"\.mlp\.c_proj\.", ".mlp.down_proj."),
    ],
)
