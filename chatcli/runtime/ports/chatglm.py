"""The door to all checkpoints whose config.json says `model_type: "chatglm"`: two architectures under one name.

ChatGLM-6B is `chatglm1`, everything after it `chatglm2`: only the later ones have `padded_vocab_size`.
"""

from __future__ import annotations

from typing import Any

from chatcli.runtime.ports import Port, chatglm1, chatglm2
from chatcli.runtime.ports.chatglm_tokenizers import ChatGLM4Tokenizer, ChatGLMTokenizer


class ChatGLMConfig(chatglm1.ChatGLM1Config):
    """Reads config.json into the configuration of one of the two."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A `ChatGLM1Config` or a `ChatGLM2Config`."""
        later = "padded_vocab_size" in config_dict or "num_key_value_heads" in config_dict
        chosen = chatglm2.ChatGLM2Config if later else chatglm1.ChatGLM1Config
        return chosen.from_dict(config_dict, **kwargs)


PORT = Port(
    config=ChatGLMConfig,
    tokenizers=[ChatGLMTokenizer, ChatGLM4Tokenizer],
    variants=[
        Port(chatglm1.ChatGLM1Config, chatglm1.ChatGLM1ForCausalLM, chatglm1.WEIGHTS),
        Port(chatglm2.ChatGLM2Config, chatglm2.ChatGLM2ForCausalLM, chatglm2.WEIGHTS),
    ],
)
