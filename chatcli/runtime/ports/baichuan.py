"""Baichuan and Baichuan2, hosted by Llama: 7B with rotary positions, 13B with ALiBi (https://arxiv.org/abs/2108.12409).

Query, key and value are fused. Baichuan2 computes logits with rows of length 1, which they get while they load.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import Cache
from transformers.core_model_loading import ConversionOps, WeightConverter
from transformers.modeling_outputs import CausalLMOutputWithPast

from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports import Port
from chatcli.runtime.ports.packed import SplitRows
from chatcli.runtime.ports.piece_tokenizers import PIECE_TOKENIZERS
from chatcli.runtime.ports.published import renamed


class BaichuanConfig(LlamaConfig):
    """Llama's configuration for the 7B models, read from the published keys."""

    model_type = "baichuan"
    normalised_head: bool = False

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The configuration of a 7B model, or `BaichuanALiBiConfig` for that of a 13B model.

        13B models are 5120 wide and say their length as `model_max_length` alone. Baichuan2 is told by its vocabulary
        or its `z_loss_weight`.
        """
        keys = renamed(config_dict)
        keys.setdefault("normalised_head", "z_loss_weight" in keys or keys.get("vocab_size") == 125696)
        chosen: type[LlamaConfig] = BaichuanConfig
        if "alibi" in keys or "max_position_embeddings" not in keys or keys.get("hidden_size") == 5120:
            chosen = BaichuanALiBiConfig
            keys.setdefault("max_position_embeddings", keys.get("model_max_length", 4096))
        return super(BaichuanConfig, chosen).from_dict(keys, **kwargs)  # type: ignore[misc]


class BaichuanALiBiConfig(BaichuanConfig):
    """The same for the 13B models."""

    alibi: bool = True


class BaichuanForCausalLM(LlamaForCausalLM):
    """`LlamaForCausalLM` under a name of its own."""

    config_class = BaichuanConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there


class _Unturned(torch.nn.Module):
    """Rotary positions that turn nothing, (1, 1, width) each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A cosine of 1 and a sine of 0."""
        return x.new_ones(1, 1, self._width), x.new_zeros(1, 1, self._width)


class BaichuanALiBiForCausalLM(LlamaForCausalLM):
    """Llama without rotary positions, whose attention falls off with the distance, at a slope of its own a head."""

    config_class = BaichuanALiBiConfig
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_compile_fullgraph = False

    def __init__(self, config: BaichuanALiBiConfig) -> None:
        super().__init__(config)
        self.model.rotary_emb = _Unturned(config.hidden_size // config.num_attention_heads)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As the native class; `attention_mask` (batch, keys) says which keys are padding."""
        cache = past_key_values if cache is None else cache
        fed = input_ids if inputs_embeds is None else inputs_embeds
        if fed is not None and (attention_mask is None or attention_mask.dim() == 2):
            past = cache.get_seq_length() if cache is not None else 0
            bias = alibi(slopes(self.config.num_attention_heads), fed.shape[1], past).to(fed.device, self.dtype)
            if attention_mask is not None:
                padding = attention_mask[:, None, None, : bias.shape[-1]] == 0
                bias = bias.masked_fill(padding, torch.finfo(bias.dtype).min)
            attention_mask = bias
        out: CausalLMOutputWithPast = super().forward(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **{CACHE: cache}, **kwargs
        )
        return out


def slopes(heads: int) -> list[float]:
    """ALiBi's slope of every head: powers of 2^(-8/n) for n heads; beyond a power of two, every other one of 2n."""
    whole = 2 ** int(math.log2(heads))
    own = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    between = [2 ** (-4 * (i + 1) / whole) for i in range(0, 2 * whole, 2)]
    return own + between[: heads - whole]


def alibi(slope: list[float], queries: int, past: int) -> torch.Tensor:
    """What is added to the scores of `queries` after `past` keys, (1, heads, queries, keys); -inf for later keys."""
    distance = torch.arange(past + queries)[None] - torch.arange(past, past + queries)[:, None]
    bias = torch.tensor(slope)[:, None, None] * distance
    return bias.masked_fill(distance > 0, -math.inf)[None]


class NormaliseHead(ConversionOps):
    """Brings the rows of Baichuan2's output matrix to length 1."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        (value,) = input_dict.values()
        head = value[0] if isinstance(value, list) else value
        if kwargs["config"].normalised_head:
            head = torch.nn.functional.normalize(head.float(), dim=-1).to(head.dtype)
        return {target_patterns[0]: head}


_WEIGHTS = [
    WeightConverter(r"self_attn\.W_pack\.weight$", [f"self_attn.{part}_proj.weight" for part in "qkv"], [SplitRows()]),
    WeightConverter(r"^lm_head\.weight$", "lm_head.weight", [NormaliseHead()]),
]
PORT = Port(
    BaichuanConfig,
    tokenizers=PIECE_TOKENIZERS,
    variants=[
        Port(BaichuanConfig, BaichuanForCausalLM, _WEIGHTS),
        Port(BaichuanALiBiConfig, BaichuanALiBiForCausalLM, _WEIGHTS),
    ],
)
