"""Yuan 2.0 (2B, 51B, 102B), hosted by `LlamaForCausalLM` with an attention of its own.

Before queries and keys are made, each layer filters its input: two convolutions, of two tokens each, mix a token with
the two before it; values are made of the unfiltered input (arXiv 2311.15786). To go on from any token, the cache holds
the unfiltered inputs beside the keys, as further heads: half as much again as keys and values alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, apply_rotary_pos_emb

from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed, rope


class YuanConfig(LlamaConfig):
    """Llama's configuration; all heads have keys and values of their own."""

    model_type = "yuan"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json.

        Raises:
            ValueError: it is a mixture of experts, which filters and chooses in other ways.
        """
        if config_dict.get("moe_config"):
            raise ValueError("the mixtures of experts among the Yuan models are not supported: use Yuan2-2B-hf")
        heads = config_dict["num_attention_heads"]
        config_dict = renamed(config_dict, {}, num_key_value_heads=heads, rope_parameters=rope(10000))
        return super().from_dict(config_dict, **kwargs)


class _Filter(nn.Module):
    """The localised filtering of a layer's input, (batch, length, hidden)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 2, (2, 1))
        self.conv2 = nn.Conv2d(width // 2, width, (2, 1))
        self.output_layernorm = LlamaRMSNorm(width, eps=1e-6)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Filter `x`, which follows `before`: the two inputs in front of it, or all there are."""
        known = torch.cat([before, x], dim=1)
        inner = _pairs(self.conv1, functional.pad(known, (0, 0, 1, 0)))
        # The first of two lacks its predecessor; in front of a text there is nothing, not even a bias.
        inner = inner[:, 1:] if before.shape[1] == 2 else functional.pad(inner, (0, 0, 1 - before.shape[1], 0))
        filtered: Tensor = self.output_layernorm(_pairs(self.conv2, inner) + x)
        return filtered


def _pairs(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Mix every two neighbours: (batch, n + 1, channels) to (batch, n, channels)."""
    return functional.conv1d(x.transpose(1, 2), conv.weight[..., 0], conv.bias).transpose(1, 2)


class _Attention(LlamaAttention):
    """Llama's attention over filtered queries and keys."""

    def __init__(self, config: YuanConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.lf_gate = _Filter(config.hidden_size)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        batch, length, _ = hidden_states.shape
        cache = kwargs.get(CACHE)
        count = self.config.num_attention_heads

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, length, count, -1).transpose(1, 2)

        before = hidden_states[:, :0]
        if cache is not None and cache.get_seq_length(self.layer_idx):
            before = cache.layers[self.layer_idx].keys[:, count:, -2:].transpose(1, 2).flatten(2)
        filtered = self.lf_gate(hidden_states, before)
        query, key = heads(self.q_proj(filtered)), heads(self.k_proj(filtered))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        value = heads(self.v_proj(hidden_states))
        if cache is not None:
            kept, value = cache.update(torch.cat([key, heads(hidden_states)], dim=1), value, self.layer_idx)
            key = kept[:, :count]
        causal = attention_mask is None and length > 1
        seen = functional.scaled_dot_product_attention(query, key, value, attention_mask, is_causal=causal)
        return self.o_proj(seen.transpose(1, 2).flatten(2)), None


class YuanForCausalLM(LlamaForCausalLM):
    """`LlamaForCausalLM` whose layers filter their inputs."""

    config_class = YuanConfig
    pads_count = True
    _supports_flash_attn = False
    _supports_flex_attn = False
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there

    def __init__(self, config: YuanConfig) -> None:
        super().__init__(config)
        for number, layer in enumerate(self.model.layers):
            layer.self_attn = _Attention(config, number)
        self.post_init()  # type: ignore[no-untyped-call]


class _SortHeads(ConversionOps):
    """Queries and keys as the published code cuts them: of both together, each head has the next rows for itself.

    The sources are the two, and keep their names: transformers before 5.23 let a converter of two have one target.
    """

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        found = {name: value[0] if isinstance(value, list) else value for name, value in input_dict.items()}
        both = torch.cat([found[pattern] for pattern in source_patterns])
        sorted_rows = both.view(kwargs["config"].num_attention_heads, 2, -1, both.shape[1])
        return {name: sorted_rows[:, part].flatten(0, 1) for part, name in enumerate(source_patterns)}


PORT = Port(
    YuanConfig,
    YuanForCausalLM,
    [
        # What the files call up is what passes through the activation, Llama's gate.
        WeightRenaming(r"\.mlp\.up_proj\.", ".mlp.activated."),
        WeightRenaming(r"\.mlp\.gate_proj\.", ".mlp.up_proj."),
        WeightRenaming(r"\.mlp\.activated\.", ".mlp.gate_proj."),
        WeightConverter(
            ["self_attn.q_proj.weight", "self_attn.k_proj.weight"],
            "self_attn.q_proj.weight",
            [_SortHeads()],
        ),
    ],
)
