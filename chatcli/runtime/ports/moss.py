"""MOSS (moss-moon-003), hosted by `CodeGenForCausalLM`: the same names, shapes and arithmetic under another model type.

The fused query, value and key are interleaved in four shards, as the native class has them.
"""

from __future__ import annotations

from typing import Any

from transformers import CodeGenConfig, CodeGenForCausalLM, GPT2Tokenizer

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed


class MossConfig(CodeGenConfig):
    """CodeGen's configuration; MOSS keeps its output head apart from its embeddings."""

    model_type = "moss"
    attribute_map = CodeGenConfig.attribute_map

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json.

        Raises:
            ValueError: the weights are packed in 4 or 8 bits.
        """
        if config_dict.get("wbits", 32) not in (16, 32):
            raise ValueError(f"packed weights of {config_dict['wbits']} bits are not supported: use moss-moon-003-sft")
        return super().from_dict(renamed(config_dict, {}, tie_word_embeddings=False), **kwargs)


class MossForCausalLM(CodeGenForCausalLM):
    """`CodeGenForCausalLM` under a name of its own."""

    config_class = MossConfig
    _keys_to_ignore_on_load_unexpected = [r"attn\.causal_mask$"]  # noqa: RUF012 -- a class variable there


class MossTokenizer(GPT2Tokenizer):
    """GPT-2's byte-level BPE over the checkpoint's vocab.json, merges.txt and added_tokens.json."""


PORT = Port(MossConfig, MossForCausalLM, tokenizers=[MossTokenizer])
