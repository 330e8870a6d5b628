"""The first Qwen models (Qwen-1.8B to 72B, `qwen`), hosted by `Qwen2ForCausalLM`.

Up to the length they were trained on (`seq_length`) the arithmetic is the native one. Beyond it two things change:
queries grow with the logarithm of their position, and the base of the rotary angles grows with the length of the
prompt ("dynamic NTK"). The base of a prompt stays while its reply is written, as keys are cached turned already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import Cache, DynamicCache
from transformers.core_model_loading import WeightConverter, WeightRenaming
from transformers.modeling_outputs import CausalLMOutputWithPast

from chatcli.models import qwen
from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports import Port
from chatcli.runtime.ports.packed import SplitRows
from chatcli.runtime.ports.published import renamed, rope

_KEYS = {"layer_norm_epsilon": "rms_norm_eps", "kv_channels": "head_dim"}


class QWenConfig(Qwen2Config):
    """Qwen2's configuration, read from the published keys; `intermediate_size` there counts gate and gated together."""

    model_type = "qwen"
    rotary_emb_base: float = 10000.0
    seq_length: int = 8192
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the keys of config.json, or from Qwen2's own.

        Raises:
            ValueError: it has what no published checkpoint has.
        """
        if "layer_norm_epsilon" in config_dict:
            for key, value in (("no_bias", True), ("rotary_pct", 1.0), ("scale_attn_weights", True)):
                if config_dict.get(key, value) != value:
                    raise ValueError(f"config.json says {key} = {config_dict[key]}: it is not supported")
            config_dict = renamed(
                config_dict,
                _KEYS,
                intermediate_size=config_dict["intermediate_size"] // 2,
                num_key_value_heads=config_dict["num_attention_heads"],
                rope_parameters=rope(config_dict.get("rotary_emb_base", 10000)),
                hidden_act="silu",
            )
        return super().from_dict(config_dict, **kwargs)


class _GrowingQueries(nn.Linear):
    """The projection of queries, whose rows (batch, length, width) are scaled by one factor a position."""

    growth: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        queries = super().forward(hidden)
        return queries if self.growth is None else queries * self.growth.to(queries)[:, None]


class QWenLMHeadModel(Qwen2ForCausalLM):
    """`Qwen2ForCausalLM` with the two rules for long texts. Rows of a padded batch count their pads as length."""

    config_class = QWenConfig
    pads_count = True
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$", r"attn\.masked_bias$"]  # noqa: RUF012

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        width = config.num_attention_heads * config.head_dim
        for layer in self.model.layers:
            layer.self_attn.q_proj = _GrowingQueries(config.hidden_size, width)
        self._stretch = 1.0
        self.post_init()  # type: ignore[no-untyped-call]

    def undivided(self, ids: Sequence[int]) -> int:
        """How many of a prompt's first ids must be read in one pass, and be cached from just this prompt to be reused.

        More than there are where the cache holds keys of another base.
        """
        stretch = self.stretch(len(ids))
        return len(ids) + 1 if stretch != self._stretch else len(ids) if stretch > 1 else 0

    def stretch(self, length: int) -> float:
        """What multiplies the width of the rotary angles' base for a prompt of `length` tokens.

        2 ** ceil(log2(length / seq_length) + 1) - 1, and 1 up to `seq_length`.
        """
        if not self.config.use_dynamic_ntk or length <= self.config.seq_length:
            return 1.0
        return float(2 ** math.ceil(math.log2(length / self.config.seq_length) + 1) - 1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As the native class. `past_key_values` and `cache` are two names of one thing."""
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache is not False:
            cache = DynamicCache(config=self.config)
        past = cache.get_seq_length() if cache is not None else 0
        fed = input_ids if input_ids is not None else inputs_embeds
        assert fed is not None
        self._prepare(cache, int(past), fed.shape[1], fed.device)
        kwargs[CACHE] = cache
        out: CausalLMOutputWithPast = super().forward(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return out

    def _prepare(self, cache: Cache | None, past: int, new: int, device: torch.device) -> None:
        """Set base and growth for the positions from `past` on; the base is the one of the cached prompt."""
        length = past + new
        stretch = getattr(cache, "stretch", 1.0) if past else self.stretch(length)
        if cache is not None:
            setattr(cache, "stretch", stretch)  # noqa: B010  # kept with the keys that it turned
        if stretch != self._stretch:
            self._stretch = stretch
            width = self.config.head_dim
            base = float(self.config.rotary_emb_base) * stretch ** (width / (width - 2))
            pairs = torch.arange(0, width, 2, dtype=torch.float, device=device)
            self.model.rotary_emb.inv_freq = base ** (-pairs / width)
        growth = None
        trained = self.config.seq_length
        if self.config.use_logn_attn and length > trained:
            place = torch.arange(past + 1, length + 1, dtype=torch.float, device=device)
            growth = (place.log() / math.log(trained)).clamp(min=1)
        for layer in self.model.layers:
            layer.self_attn.q_proj.growth = growth


class QWenTokenizer(PreTrainedTokenizerFast):
    """The tokenizer for transformers, under the name that tokenizer_config.json says."""

    vocab_files_names = {"vocab_file": qwen.FILE}  # noqa: RUF012 -- a class variable there

    def __init__(self, vocab_file: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("eos_token", "<|endoftext|>")
        kwargs.setdefault("pad_token", "<|endoftext|>")
        kwargs["tokenizer_object"] = qwen.tokenizer(Path(vocab_file))
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]


PORT = Port(
    QWenConfig,
    QWenLMHeadModel,
    [
        WeightRenaming(r"^transformer\.wte\.", "model.embed_tokens."),
        WeightRenaming(r"^transformer\.ln_f\.", "model.norm."),
        WeightRenaming(r"^transformer\.h\.", "model.layers."),
        WeightRenaming(r"\.ln_1\.", ".input_layernorm."),
        WeightRenaming(r"\.ln_2\.", ".post_attention_layernorm."),
        WeightRenaming(r"\.attn\.c_proj\.", ".self_attn.o_proj."),
        WeightRenaming(r"\.mlp\.w1\.", ".mlp.up_proj."),
        WeightRenaming(r"\.mlp\.w2\.", ".mlp.gate_proj."),
        WeightRenaming(r"\.mlp\.c_proj\.", ".mlp.down_proj."),
        WeightConverter("attn.c_attn.weight", [f"self_attn.{p}_proj.weight" for p in "qkv"], [SplitRows()]),
        WeightConverter("attn.c_attn.bias", [f"self_attn.{p}_proj.bias" for p in "qkv"], [SplitRows()]),
    ],
    [QWenTokenizer],
)
