"""Falcon as first published (`RefinedWeb` and `RefinedWebModel`), hosted by `FalconForCausalLM`.

The weights have their later names; of config.json some keys differ. Groups of keys and values (`n_head_kv`), which
the 40B has, came together with a normalisation of its own for each half of a layer.
"""

from __future__ import annotations

from typing import Any

from transformers import FalconConfig, FalconForCausalLM

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed, rope

_KEYS = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_head_kv": "num_kv_heads"}


class RefinedWebConfig(FalconConfig):
    """Falcon's configuration, read from the first names."""

    model_type = "RefinedWeb"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from Falcon's own."""
        if "n_layer" in config_dict:
            grouped = bool(config_dict.get("n_head_kv"))
            config_dict = renamed(
                config_dict,
                _KEYS,
                new_decoder_architecture=grouped,
                multi_query=config_dict.get("multi_query", False),
                parallel_attn=config_dict.get("parallel_attn", False),
                rope_parameters=rope(10000),
            )
        return super().from_dict(config_dict, **kwargs)


class RefinedWebModelConfig(RefinedWebConfig):
    """The same under the name that the 7B has."""

    model_type = "RefinedWebModel"


class RefinedWebForCausalLM(FalconForCausalLM):
    """`FalconForCausalLM` under a name of its own."""

    config_class = RefinedWebConfig


class RefinedWebModelForCausalLM(FalconForCausalLM):
    """The same under the name that the 7B has."""

    config_class = RefinedWebModelConfig


PORT = Port(
    RefinedWebConfig,
    variants=[
        Port(RefinedWebConfig, RefinedWebForCausalLM),
        Port(RefinedWebModelConfig, RefinedWebModelForCausalLM),
    ],
)
