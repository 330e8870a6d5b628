"""DeepSeek-MoE-16B (`deepseek`): Llama's attention and DeepSeek-V2's experts, both from native classes.

The first layers are dense; in the others each token goes through the shared experts and the `num_experts_per_tok`
most likely of the routed ones, weighted by their probabilities, which are normalised only where config.json says so.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe, DeepseekV2TopkRouter

from chatcli.runtime.ports import Port
from chatcli.runtime.ports.published import renamed


class DeepseekConfig(LlamaConfig):
    """Llama's configuration, and what the experts need."""

    model_type = "deepseek"
    n_routed_experts: int | None = None
    n_shared_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int = 1408
    moe_layer_freq: int = 1
    first_k_dense_replace: int = 0
    norm_topk_prob: bool = False
    num_experts: int | None = None
    topk_method: str = "greedy"
    routed_scaling_factor: float = 1.0
    n_group: int = 1
    topk_group: int = 1

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json.

        Raises:
            ValueError: it chooses experts in a way of its own.
        """
        if config_dict.get("scoring_func", "softmax") != "softmax":
            raise ValueError(f"config.json says scoring_func = {config_dict['scoring_func']}; it is not supported")
        experts = config_dict.get("n_routed_experts")
        return super().from_dict(renamed(config_dict, {}, num_experts=experts), **kwargs)

    def has_experts(self, layer: int) -> bool:
        """Whether a layer is a mixture of experts rather than dense."""
        chosen = layer >= self.first_k_dense_replace and layer % self.moe_layer_freq == 0
        return self.n_routed_experts is not None and chosen


class _Router(DeepseekV2TopkRouter):
    """The native choice of experts, whose weights may be made to sum to one."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]  # it reads no more than this configuration has
        self._normalised = config.norm_topk_prob

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, weights, indices = super().forward(hidden_states)  # type: ignore[no-untyped-call]
        if self._normalised and weights.shape[-1] > 1:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return logits, weights, indices


class DeepseekForCausalLM(LlamaForCausalLM):
    """`LlamaForCausalLM` with experts in its feed-forward layers."""

    config_class = DeepseekConfig
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 -- a class variable there

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__(config)
        for number, layer in enumerate(self.model.layers):
            if config.has_experts(number):
                layer.mlp = DeepseekV2Moe(config)  # type: ignore[arg-type]  # as above
                layer.mlp.gate = _Router(config)
        self.post_init()  # type: ignore[no-untyped-call]


PORT = Port(
    DeepseekConfig,
    DeepseekForCausalLM,
    [
        WeightConverter(
            ["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"],
            "mlp.experts.gate_up_proj",
            [MergeModulelist(dim=0), Concatenate(dim=1)],
        ),
        WeightConverter("mlp.experts.*.down_proj.weight", "mlp.experts.down_proj", [MergeModulelist(dim=0)]),
    ],
)
