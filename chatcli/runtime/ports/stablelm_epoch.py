"""StableLM as first published (`stablelm_epoch`), hosted by `StableLmForCausalLM`: only keys of config.json differ."""

from __future__ import annotations

from typing import Any

from transformers import StableLmConfig, StableLmForCausalLM

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed, rope


class StableLmEpochConfig(StableLmConfig):
    """The native configuration, read from the first names."""

    model_type = "stablelm_epoch"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from the native ones."""
        if "norm_eps" in config_dict:
            share = config_dict.get("rope_pct", 0.25)
            turning = rope(config_dict.get("rope_theta", 10000), partial_rotary_factor=share)
            config_dict = renamed(
                config_dict,
                {"norm_eps": "layer_norm_eps"},
                rope_parameters=turning,
                partial_rotary_factor=share,
                num_key_value_heads=config_dict.get("num_key_value_heads") or config_dict["num_attention_heads"],
            )
        return super().from_dict(config_dict, **kwargs)


class StableLmEpochForCausalLM(StableLmForCausalLM):
    """`StableLmForCausalLM` under a name of its own."""

    config_class = StableLmEpochConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there


PORT = Port(StableLmEpochConfig, StableLmEpochForCausalLM)
