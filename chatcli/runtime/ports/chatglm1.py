"""ChatGLM-6B, the first: GLM (arXiv 2103.10360) with 2-D rotary positions and DeepNorm residuals.

A prefix language model: the context before `<sop>` sees itself in both directions, the answer is causal. Parameters
have the names of the published checkpoint; the tensors of its int8 and int4 versions are unpacked on load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.core_model_loading import WeightConverter
from transformers.modeling_outputs import CausalLMOutputWithPast

from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports.packed import Unpack
from chatcli.runtime.ports.ptuning import PrefixEncoder, with_prefix

ALPHA = math.sqrt(2 * 28)
"""DeepNorm's weight of the residual (arXiv 2203.00555): trained with 28 layers, whatever config.json says."""


class ChatGLM1Config(PreTrainedConfig):
    """The keys of config.json; the defaults are those of the first, larger vocabulary."""

    model_type = "chatglm"
    attribute_map = {  # noqa: RUF012 -- a class variable there
        "num_hidden_layers": "num_layers",
        "intermediate_size": "inner_hidden_size",
        "max_position_embeddings": "max_sequence_length",
    }

    vocab_size: int = 150528
    hidden_size: int = 4096
    num_layers: int = 28
    num_attention_heads: int = 32
    inner_hidden_size: int = 16384
    layernorm_epsilon: float = 1e-5
    max_sequence_length: int = 2048
    position_encoding_2d: bool = True
    use_cache: bool = True
    bos_token_id: int = 150004
    eos_token_id: int = 150005
    pad_token_id: int = 0
    mask_token_id: int | None = None
    gmask_token_id: int | None = None
    quantization_bit: int = 0
    pre_seq_len: int | None = None
    prefix_projection: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Fine-tunes from older code leave the masks' ids out; in both vocabularies they stand before `<sop>`."""
        if self.mask_token_id is None:
            self.mask_token_id = self.bos_token_id - 4
        if self.gmask_token_id is None:
            self.gmask_token_id = self.bos_token_id - 3
        if not self.position_encoding_2d:
            raise ValueError("position_encoding_2d is false: no published ChatGLM is, and this one is not supported")
        kwargs["tie_word_embeddings"] = True  # config.json says nothing, and the original always tied them
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


class Attention(nn.Module):
    """Full attention; each head's query, key and value lie side by side in the fused weight."""

    def __init__(self, config: ChatGLM1Config, layer: int) -> None:
        super().__init__()
        self._heads, self._layer = config.num_attention_heads, layer
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, angles: tuple[torch.Tensor, torch.Tensor], cache: Cache | None
    ) -> torch.Tensor:
        """`x` (batch, new, hidden), `mask` (batch, 1, new, all), true where a key is seen."""
        fused = self.query_key_value(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        query, key, value = fused.chunk(3, dim=-1)
        query, key = rotate(query, *angles), rotate(key, *angles)
        if cache is not None:
            key, value = cache.update(key, value, self._layer)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: torch.Tensor = self.dense(mixed.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """Up, GELU in its tanh form, down; no gate."""

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, new, hidden) to the same."""
        out: torch.Tensor = self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(x), approximate="tanh"))
        return out


class ChatGLMBlock(nn.Module):
    """Attention and MLP, each added to its *normalised* input times `ALPHA`."""

    def __init__(self, config: ChatGLM1Config, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = Attention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, angles: tuple[torch.Tensor, torch.Tensor], cache: Cache | None
    ) -> torch.Tensor:
        """See `Attention`."""
        h = self.input_layernorm(x)
        x = ALPHA * h + self.attention(h, mask, angles, cache)
        m = self.post_attention_layernorm(x)
        out: torch.Tensor = ALPHA * m + self.mlp(m)
        return out


class Transformer(nn.Module):
    """Everything but the output head."""

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ChatGLMBlock(config, layer) for layer in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        if config.pre_seq_len:
            heads = config.num_attention_heads
            projected = config.hidden_size if config.prefix_projection else 0
            shape = (config.num_layers, heads, config.hidden_size // heads)
            self.prefix_encoder = PrefixEncoder(config.pre_seq_len, shape, hidden=projected, narrow=config.hidden_size)


class ChatGLM1ForCausalLM(PreTrainedModel, GenerationMixin):
    """The model with its output head, which is the embedding."""

    config_class = ChatGLM1Config
    base_model_prefix = "transformer"
    _no_split_modules = ["ChatGLMBlock"]  # noqa: RUF012 -- a class variable there
    _supports_sdpa = True
    _tied_weights_keys = {"head.weight": "transformer.word_embeddings.weight"}  # noqa: RUF012
    # The files hold the head a second time, as lm_head; transformers would not tie it where the copies differ.
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$", r"^lm_head\."]  # noqa: RUF012

    def __init__(self, config: ChatGLM1Config) -> None:
        super().__init__(config)
        self.transformer = Transformer(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.transformer.word_embeddings

    def get_output_embeddings(self) -> nn.Module:
        """The same matrix, as the output head."""
        return self.head

    def undivided(self, ids: Sequence[int]) -> int:
        """How many tokens at the beginning of a text must be read at once: the context with its `<sop>`."""
        return self._context(ids)[0] + 1

    def positions(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The two positions (batch, 2, length) of every token of whole texts (batch, length), padded on the left.

        In the context a token's own place and 0; from `<sop>` on the place of the mask that the answer fills, and
        1, 2, 3 ...

        Raises:
            ValueError: a text has no `<sop>`, or neither [gMASK] nor [MASK].
        """
        found = torch.zeros(len(input_ids), 2, input_ids.shape[1], dtype=torch.long)
        pads = [0] * len(found) if attention_mask is None else (attention_mask == 0).sum(dim=1).tolist()
        for row, ids, pad in zip(found, input_ids.tolist(), pads, strict=True):
            row[:, pad:] = self.places(ids[pad:])
        return found.to(input_ids.device)

    def places(self, ids: Sequence[int], start: int = 0) -> torch.Tensor:
        """The positions (2, length) of one text from its token `start` on; see `positions`."""
        context, mask = self._context(ids)
        place = torch.arange(start, len(ids))
        return torch.stack((place.masked_fill(place >= context, mask), (place - context + 1).clamp(min=0)))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the new tokens `input_ids` (batch, new), the last `logits_to_keep` of them.

        `attention_mask` (batch, all) is 0 on pads; `position_ids` are those of `positions`, which may be left out
        for whole texts. `past_key_values` and `cache` are two names of one thing.
        """
        cache = past_key_values if cache is None else cache
        prefix = getattr(self.transformer, "prefix_encoder", None)
        if cache is None and (use_cache or prefix):
            cache = DynamicCache()
        past = 0 if cache is None else cache.get_seq_length()
        if position_ids is None:
            if past:
                raise ValueError("a text that goes on needs its position_ids")
            position_ids = self.positions(input_ids, attention_mask)
        if prefix and cache is not None and not past:
            prefix.fill(cache, len(input_ids))
            past = prefix.length
        mask = visible(position_ids[:, 1], with_prefix(attention_mask, prefix.length if prefix else 0), past)
        x = self.transformer.word_embeddings(input_ids)
        angles = rotation(position_ids, self.config.hidden_size // self.config.num_attention_heads, x.dtype)
        for block in self.transformer.layers:
            x = block(x, mask, angles, cache)
        x = self.transformer.final_layernorm(x[:, -logits_to_keep:])
        kept: dict[str, Any] = {CACHE: cache}
        return CausalLMOutputWithPast(logits=self.head(x), **kept)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """What `generate` feeds next: the tokens that are not cached yet, with positions told from the whole text."""
        cache = kwargs.get(CACHE)
        prefix = self.config.pre_seq_len or 0
        done = max(0, cache.get_seq_length() - prefix) if cache is not None else 0
        return {
            "input_ids": input_ids[:, done:],
            "attention_mask": attention_mask,
            "position_ids": self.positions(input_ids, attention_mask)[..., done:],
            CACHE: cache,
            "use_cache": kwargs.get("use_cache", True),
            "logits_to_keep": kwargs.get("logits_to_keep", 0),
        }

    def _context(self, ids: Sequence[int]) -> tuple[int, int]:
        """The length of the context, and the place of the mask that is filled."""
        for mask in (self.config.gmask_token_id, self.config.mask_token_id):
            if mask in ids and self.config.bos_token_id in ids:
                return ids.index(self.config.bos_token_id), ids.index(mask)
        raise ValueError("a ChatGLM prompt ends with [gMASK] and <sop>, and this one lacks them")


def visible(block: torch.Tensor, attention_mask: torch.Tensor | None, past: int) -> torch.Tensor | None:
    """Which of all keys the new tokens see, (batch, 1, new, all); None where they see everything.

    `block` (batch, new) is 0 in the context and counts up in the answer; `past` tokens are cached.
    """
    batch, new = block.shape
    if new == 1 and attention_mask is None:
        return None
    causal = torch.ones(new, new, dtype=torch.bool, device=block.device).tril()
    seen = causal | (block == 0)[:, None]
    seen = torch.cat([seen.new_ones(batch, new, past), seen], dim=2)
    if attention_mask is not None:
        seen = seen & attention_mask.bool()[:, None]
        # A pad sees itself, or its softmax would have nothing to share out.
        seen[:, :, past:] |= torch.eye(new, dtype=torch.bool, device=block.device)
    return seen[:, None]


def rotation(position_ids: torch.Tensor, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (batch, 1, new, 2, width / 4) of both positions; a head's halves of `width` turn with one each.

    The frequencies were rounded to float16 when the model was trained; the angles are exact.
    """
    exponents = torch.arange(0, width // 2, 2, device=position_ids.device).float() / (width // 2)
    frequencies = (1.0 / 10000**exponents).half().float()
    angles = position_ids.transpose(1, 2)[:, None, ..., None].float() * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn (batch, heads, new, width): in each half of a head element j pairs with j + width / 4."""
    a, b = x.unflatten(-1, (2, 2, -1)).unbind(-2)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-2).flatten(-3)


_PACKED = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "word_embeddings")
WEIGHTS = [
    WeightConverter([f"{name}.weight$", f"{name}.weight_scale$"], f"{name}.weight", [Unpack()]) for name in _PACKED
]
