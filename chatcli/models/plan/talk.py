"""What a talk takes beside the weights: the cache of its tokens, and the buffers of a forward pass.

Told from config.json alone, as transformers' `DynamicCache` and its attention keep it: a latent for multi-head latent
attention, at most a window for sliding attention, a constant state for Mamba and its kin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatcli.models.checkpoint import text_config

CHUNK = 512
"""Tokens of a prompt that are read in one forward pass; at most; the same as the runtime's `MOST_CHUNK`."""
_CUBLAS = 32 * 2**20
"""Of a Hopper; earlier GPUs have a quarter of it (PyTorch's notes on CUDA, cuBLAS workspaces)."""

_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma3n_text": 5, "cohere2": 4, "gpt_oss": 2}
"""Families of which every n-th layer attends to everything and the others to a window, where config.json is silent."""
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096},
    "gemma2": {"head_dim": 256, "sliding_window": 4096},
    "gemma": {"head_dim": 256},
    "qwen3": {"head_dim": 128},
}
"""What config.json leaves to the family's class in transformers."""
_LINEAR = frozenset({"mamba", "mamba2", "falcon_mamba", "rwkv"})
_SAME = {
    **{"attention": "full", "full_attention": "full", "*": "full", "indexed_attention": "full", "global": "full"},
    **{"sliding_attention": "window", "chunked_attention": "window", "hybrid_sliding": "both", "hybrid": "both"},
    **{"mamba": "state", "mamba2": "state", "linear_attention": "state", "recurrent": "state", "M": "state"},
    **{"conv": "conv", "moe": "none", "mlp": "none", "-": "none", "E": "none"},
}
"""What a layer keeps, by each name that config.json files give its kind."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps: bytes for each of the last `window` tokens (0: of all), and `state` whatever is said."""

    token: int
    window: int = 0
    state: int = 0

    def held(self, tokens: int, more: int = 0) -> int:
        """How many tokens it holds of `tokens`, while `more` are read."""
        return min(tokens, self.window + more) if self.window else tokens


def cache_bytes(config: Mapping[str, Any], tokens: int, element: int = 2) -> int:
    """What the cache of a talk of `tokens` tokens takes with `element` bytes a number."""
    return sum(each.state + each.token * each.held(tokens) for each in layers(config, element))


def kv_bytes_per_token(config: Mapping[str, Any], element: int = 2) -> int:
    """What one token of talk costs in the cache; 0 where the configuration does not tell."""
    return sum(each.token for each in layers(config, element))


def layers(config: Mapping[str, Any], element: int = 2) -> tuple[Layer, ...]:
    """What each layer keeps; none where the configuration does not tell."""
    part = _with_defaults(text_config(config))
    count = number(part, "num_hidden_layers", "num_layers", "n_layer", "n_layers")
    token, window = _token(part, element), number(part, "sliding_window", "attention_chunk_size")
    kinds = {
        "full": Layer(token),
        "window": Layer(token, window),
        "state": Layer(0, 0, _state(part, element)),
        "both": Layer(token, 0, _state(part, element)),
        "conv": Layer(0, 0, number(part, "hidden_size") * (number(part, "conv_L_cache") or 3) * element),
        "none": Layer(0),
    }
    return tuple(kinds[kind] for kind in _kinds(part, count, window))


def _with_defaults(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**_DEFAULTS.get(str(part.get("model_type")), {}), **part}


def number(part: Mapping[str, Any], *keys: str) -> int:
    """The first of `keys` that is a whole number above 0; 0 where none is."""
    found = (part.get(key) for key in keys)
    return next((v for v in found if isinstance(v, int) and not isinstance(v, bool) and v > 0), 0)


def _kinds(part: Mapping[str, Any], count: int, window: int) -> Sequence[str]:
    """What each of `count` layers keeps, by whatever key the family says it with."""
    family = str(part.get("model_type", ""))
    for key in ("layer_types", "layers_block_type", "block_types", "hybrid_override_pattern"):
        said = part.get(key)
        if isinstance(said, (list, str)) and said:
            named = [_SAME.get(str(each), "full") for each in said]
            return (named * (count // len(named) + 1))[:count] if count else named
    if family in _LINEAR:
        return ["state"] * count
    if family == "falcon_h1":
        return ["both"] * count
    if period := number(part, "attn_layer_period", "full_attention_interval"):
        offset = part.get("attn_layer_offset", period - 1)
        return ["full" if i % period == offset else "state" for i in range(count)]
    for key, other in (("attn_layer_indices", "state"), ("full_attn_idxs", "conv")):
        if isinstance(part.get(key), list):
            return ["full" if i in part[key] else other for i in range(count)]
    if not window or not part.get("use_sliding_window", not family.startswith("qwen")):
        return ["full"] * count
    if family.startswith("qwen"):
        first = number(part, "max_window_layers")
        return ["window" if i >= first else "full" for i in range(count)]
    default = 4 if number(part, "attention_chunk_size") else _PATTERNS.get(family, 0)
    pattern = number(part, "sliding_window_pattern", "no_rope_layer_interval") or default
    return ["window" if not pattern or (i + 1) % pattern else "full" for i in range(count)]


def _token(part: Mapping[str, Any], element: int) -> int:
    """What a layer of attention keeps of a token."""
    if latent := number(part, "kv_lora_rank"):
        return (latent + number(part, "qk_rope_head_dim")) * element
    kept = 3 if part.get("model_type") == "yuan" else 2  # its inputs, beside keys and values
    _, groups, width = _heads(part)
    return kept * groups * width * element


def _heads(part: Mapping[str, Any]) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, and the width of each."""
    heads = number(part, "num_attention_heads", "n_head", "n_heads")
    width = number(part, "head_dim", "kv_channels") or number(part, "hidden_size", "n_embd", "d_model") // max(heads, 1)
    groups = number(part, "num_key_value_heads", "num_kv_heads", "n_head_kv")
    if part.get("multi_query_attention"):  # ChatGLM2 and its successors
        groups = number(part, "multi_query_group_num") or 1
    elif part.get("multi_query") and not groups:  # the first Falcons
        groups = 1
    return heads, groups or heads, width


def _state(part: Mapping[str, Any], element: int) -> int:
    """What a layer with a running state keeps: the state in float32, and the last inputs of its convolution.

    Gated delta rule: value heads x key width x value width (arXiv 2412.06464). Mamba: inner width x state size
    (arXiv 2312.00752).
    """
    kernel = number(part, "linear_conv_kernel_dim", "mamba_d_conv", "conv_kernel", "conv1d_width") or 4
    if values := number(part, "linear_num_value_heads"):
        wide, deep = number(part, "linear_value_head_dim"), number(part, "linear_key_head_dim")
        through = values * wide + 2 * number(part, "linear_num_key_heads") * deep
        return values * wide * deep * 4 + through * kernel * element
    hidden = number(part, "hidden_size", "d_model")
    inner = number(part, "mamba_d_ssm") or number(part, "mamba_num_heads") * number(part, "mamba_head_dim")
    inner = inner or hidden * (number(part, "mamba_expand", "expand") or 2)
    size = number(part, "mamba_d_state", "ssm_state_size", "state_size") or 16
    groups = number(part, "mamba_n_groups", "n_groups")
    return inner * size * 4 + (inner + 2 * groups * size) * kernel * element


def work_bytes(config: Mapping[str, Any], tokens: int, element: int = 2, kind: str = "cuda") -> int:
    """What one forward pass needs for a moment: activations of a chunk, one layer's keys and values, the logits.

    Layers come one after another, and attention before the feed-forward part, so the largest of them counts once. On a
    CPU a cache that grows leaves holes behind, in all as large as itself; on CUDA cuBLAS keeps a workspace.
    """
    part = _with_defaults(text_config(config))
    chunk = min(CHUNK, tokens)
    stream = 4 * chunk * number(part, "hidden_size", "n_embd", "d_model") * element
    mask = chunk * tokens * (1 + element)
    logits = 8 * number(part, "vocab_size", "padded_vocab_size") * 4  # sorted, summed and masked while one is drawn
    own = {"cpu": cache_bytes(config, tokens, element), "cuda": _CUBLAS}.get(kind, 0)
    attention = _attention_bytes(part, layers(config, element), tokens, element)
    return stream + mask + logits + own + max(attention, _feed_forward_bytes(part, chunk, element))


def _attention_bytes(part: Mapping[str, Any], every: Sequence[Layer], tokens: int, element: int) -> int:
    """Queries, keys and values of a chunk, before and after they are turned; those of all tokens while new ones join.

    And once more in full width, where fewer heads of keys than of queries are kept, or a latent is.
    """
    heads, groups, width = _heads(part)
    chunk = min(CHUNK, tokens)
    turned = 2 * chunk * (heads + 2 * groups) * width * element
    longest = max((each.token * each.held(tokens, chunk) for each in every), default=0)
    if number(part, "kv_lora_rank"):
        keys = number(part, "qk_nope_head_dim") + number(part, "qk_rope_head_dim")
        return turned + longest + tokens * heads * (keys + number(part, "v_head_dim")) * element
    return turned + longest + (longest * heads // groups if 0 < groups < heads else 0)


def _feed_forward_bytes(part: Mapping[str, Any], chunk: int, element: int) -> int:
    """The gate, what it lets through and their product; of a mixture for each expert that is asked."""
    hidden = number(part, "hidden_size", "n_embd", "d_model")
    inner = number(part, "intermediate_size", "ffn_hidden_size", "inner_hidden_size", "n_inner") or 4 * hidden
    asked = number(part, "num_experts_per_tok", "moe_topk")
    mixed = asked * (3 * (number(part, "moe_intermediate_size") or inner) + 2 * hidden)
    return chunk * max(3 * inner, mixed) * element
