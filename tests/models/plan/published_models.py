"""Published models by their numbers: what their config.json says and the headers of their files, without a weight.

Shapes are those of the published files; the totals in `PARAMETERS` are those that the model cards give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from chatcli.models.weights import Tensor

Config = Mapping[str, Any]
Shapes = Iterator[tuple[str, tuple[int, ...]]]
_BITS = {"BF16": 16, "F16": 16, "F32": 32, "F8_E4M3": 8, "U8": 8, "I32": 32}


def tensor(dtype: str, *shape: int) -> Tensor:
    return Tensor(dtype, shape, math.prod(shape) * _BITS[dtype] // 8)


def llama(layers: int, hidden: int, heads: int, groups: int, inner: int, vocabulary: int, **more: Any) -> Config:
    return {
        **{"model_type": "llama", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads},
        **{"num_key_value_heads": groups, "intermediate_size": inner, "vocab_size": vocabulary},
        **{"max_position_embeddings": 131072, "tie_word_embeddings": False, "dtype": "bfloat16"},
        **more,
    }


def _attention(c: Config) -> Shapes:
    width = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    hidden, queries, keys = c["hidden_size"], c["num_attention_heads"] * width, c["num_key_value_heads"] * width
    for name, out in (("q", queries), ("k", keys), ("v", keys)):
        yield f"self_attn.{name}_proj.weight", (out, hidden)
        if c["model_type"] == "qwen2":
            yield f"self_attn.{name}_proj.bias", (out,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if c["model_type"] in ("qwen3_moe", "gemma3_text"):
        yield from ((f"self_attn.{name}_norm.weight", (width,)) for name in "qk")


def _latent_attention(c: Config) -> Shapes:
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    yield "self_attn.q_a_proj.weight", (c["q_lora_rank"], hidden)
    yield "self_attn.q_a_layernorm.weight", (c["q_lora_rank"],)
    yield "self_attn.q_b_proj.weight", (heads * (nope + rope), c["q_lora_rank"])
    yield "self_attn.kv_a_proj_with_mqa.weight", (c["kv_lora_rank"] + rope, hidden)
    yield "self_attn.kv_a_layernorm.weight", (c["kv_lora_rank"],)
    yield "self_attn.kv_b_proj.weight", (heads * (nope + value), c["kv_lora_rank"])
    yield "self_attn.o_proj.weight", (hidden, heads * value)


def _mlp(
    prefix: str, hidden: int, inner: int, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
) -> Shapes:
    first, second, last = names
    yield from ((f"{prefix}.{name}.weight", (inner, hidden)) for name in (first, second))
    yield f"{prefix}.{last}.weight", (hidden, inner)


def _feed_forward(c: Config, layer: int) -> Shapes:
    hidden, family = c["hidden_size"], c["model_type"]
    experts = c.get("num_experts") or c.get("num_local_experts") or c.get("n_routed_experts") or 0
    if not experts or layer < c.get("first_k_dense_replace", 0):
        yield from _mlp("mlp", hidden, c["intermediate_size"])
        return
    place, names = (
        ("block_sparse_moe", ("w1", "w3", "w2"))
        if family == "mixtral"
        else ("mlp", ("gate_proj", "up_proj", "down_proj"))
    )
    yield f"{place}.gate.weight", (experts, hidden)
    for expert in range(experts):
        yield from _mlp(
            f"{place}.experts.{expert}", hidden, c.get("moe_intermediate_size") or c["intermediate_size"], names
        )
    if c.get("n_shared_experts"):
        yield "mlp.gate.e_score_correction_bias", (experts,)
        yield from _mlp("mlp.shared_experts", hidden, c["moe_intermediate_size"])


def shapes(c: Config) -> Shapes:
    """Name and shape of each of a model's tensors."""
    hidden = c["hidden_size"]
    yield "model.embed_tokens.weight", (c["vocab_size"], hidden)
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if c["model_type"].startswith("gemma") else []
    for layer in range(c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)):
        yield from ((f"model.layers.{layer}.{norm}.weight", (hidden,)) for norm in norms)
        for part in (_latent_attention(c) if "kv_lora_rank" in c else _attention(c), _feed_forward(c, layer)):
            yield from ((f"model.layers.{layer}.{name}", shape) for name, shape in part)
    yield "model.norm.weight", (hidden,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], hidden)


def in_16_bits(c: Config) -> dict[str, Tensor]:
    return {name: tensor("BF16", *shape) for name, shape in shapes(c)}


def _linear(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and "embed" not in name and "lm_head" not in name and not name.endswith(".gate.weight")


def in_fp8(c: Config) -> dict[str, Tensor]:
    """With a float32 scale for each block of 128 by 128, as DeepSeek publishes its weights."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes(c):
        if _linear(name, shape):
            found[name] = tensor("F8_E4M3", *shape)
            found[f"{name}_scale_inv"] = tensor("F32", *(-(-side // 128) for side in shape))
        else:
            found[name] = tensor("BF16", *shape)
    return found


def in_gptq(c: Config, *, awq: bool = False) -> dict[str, Tensor]:
    """Four bits in groups of 128, eight of them in an int32; AWQ packs along the other side and keeps no order."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes(c):
        if not _linear(name, shape):
            found[name] = tensor("F16", *shape)
            continue
        out, into = shape
        stem = name.removesuffix(".weight")
        found[f"{stem}.qweight"] = tensor("I32", into, out // 8) if awq else tensor("I32", into // 8, out)
        found[f"{stem}.qzeros"] = tensor("I32", into // 128, out // 8)
        found[f"{stem}.scales"] = tensor("F16", into // 128, out)
        if not awq:
            found[f"{stem}.g_idx"] = tensor("I32", into)
    return found


def in_nf4(c: Config) -> dict[str, Tensor]:
    """As bitsandbytes writes it, with scales of scales."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes(c):
        if not _linear(name, shape):
            found[name] = tensor("BF16", *shape)
            continue
        count = math.prod(shape)
        found[name] = tensor("U8", count // 2, 1)
        found[f"{name}.absmax"] = tensor("U8", count // 64)
        found[f"{name}.nested_absmax"] = tensor("F32", count // 64 // 256)
        found[f"{name}.quant_map"] = found[f"{name}.nested_quant_map"] = tensor("F32", 16)
        found[f"{name}.quant_state.bitsandbytes__nf4"] = tensor("U8", 86)
    return found


def gpt_oss(c: Config) -> dict[str, Tensor]:
    """Experts in MXFP4: two numbers in a byte, a scale for each 32."""
    hidden, inner, experts, heads = c["hidden_size"], c["intermediate_size"], c["num_local_experts"], 64
    found = {name: tensor("BF16", c["vocab_size"], hidden) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, out, into in (("q", 4096, hidden), ("k", 512, hidden), ("v", 512, hidden), ("o", hidden, 4096)):
            found[f"{at}.self_attn.{name}_proj.weight"] = tensor("BF16", out, into)
            found[f"{at}.self_attn.{name}_proj.bias"] = tensor("BF16", out)
        found[f"{at}.self_attn.sinks"] = tensor("BF16", heads)
        found[f"{at}.mlp.router.weight"] = tensor("BF16", experts, hidden)
        found[f"{at}.mlp.router.bias"] = tensor("BF16", experts)
        for name, out, into in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
            found[f"{at}.mlp.experts.{name}_blocks"] = tensor("U8", experts, out, into // 32, 16)
            found[f"{at}.mlp.experts.{name}_scales"] = tensor("U8", experts, out, into // 32)
            found[f"{at}.mlp.experts.{name}_bias"] = tensor("BF16", experts, out)
        found |= {
            f"{at}.{norm}.weight": tensor("BF16", hidden) for norm in ("input_layernorm", "post_attention_layernorm")
        }
    return found | {"model.norm.weight": tensor("BF16", hidden)}


QWEN25_05B = llama(
    24,
    896,
    14,
    2,
    4864,
    151936,
    model_type="qwen2",
    max_position_embeddings=32768,
    sliding_window=32768,
    use_sliding_window=False,
    max_window_layers=21,
    tie_word_embeddings=True,
)
QWEN25_7B = llama(
    28,
    3584,
    28,
    4,
    18944,
    152064,
    model_type="qwen2",
    max_position_embeddings=32768,
    use_sliding_window=False,
    sliding_window=131072,
    max_window_layers=28,
)
LLAMA_8B = llama(32, 4096, 32, 8, 14336, 128256)
LLAMA_70B = llama(80, 8192, 64, 8, 28672, 128256)
MISTRAL_7B = llama(
    32, 4096, 32, 8, 14336, 32000, model_type="mistral", max_position_embeddings=32768, sliding_window=4096
)
MIXTRAL = llama(
    32,
    4096,
    32,
    8,
    14336,
    32000,
    model_type="mixtral",
    max_position_embeddings=32768,
    sliding_window=None,
    num_local_experts=8,
    num_experts_per_tok=2,
)
QWEN3_30B = llama(
    48,
    2048,
    32,
    4,
    6144,
    151936,
    model_type="qwen3_moe",
    head_dim=128,
    max_position_embeddings=40960,
    num_experts=128,
    num_experts_per_tok=8,
    moe_intermediate_size=768,
    use_sliding_window=False,
    sliding_window=None,
    max_window_layers=48,
)
GEMMA2_9B = llama(
    42,
    3584,
    16,
    8,
    14336,
    256000,
    model_type="gemma2",
    head_dim=256,
    max_position_embeddings=8192,
    sliding_window=4096,
    tie_word_embeddings=True,
)
GEMMA3_1B = llama(
    26,
    1152,
    4,
    1,
    6912,
    262144,
    model_type="gemma3_text",
    head_dim=256,
    max_position_embeddings=32768,
    sliding_window=512,
    sliding_window_pattern=6,
    tie_word_embeddings=True,
)
DEEPSEEK_V3 = llama(
    61,
    7168,
    128,
    128,
    18432,
    129280,
    model_type="deepseek_v3",
    max_position_embeddings=163840,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    moe_intermediate_size=2048,
    first_k_dense_replace=3,
    num_nextn_predict_layers=1,
    quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]},
)
GPT_OSS_20B = llama(
    24,
    2880,
    64,
    8,
    2880,
    201088,
    model_type="gpt_oss",
    head_dim=64,
    sliding_window=128,
    num_local_experts=32,
    num_experts_per_tok=4,
    quantization_config={"quant_method": "mxfp4"},
    layer_types=["sliding_attention", "full_attention"] * 12,
)
JAMBA = {"model_type": "jamba", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
         "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 65536, "attn_layer_period": 8,
         "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "num_experts": 16,
         "num_experts_per_tok": 2, "max_position_embeddings": 262144}  # fmt: skip
QWEN3_NEXT = {"model_type": "qwen3_next", "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 16,
              "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4, "linear_num_value_heads": 32,
              "linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
              "linear_conv_kernel_dim": 4, "intermediate_size": 5120, "vocab_size": 151936}  # fmt: skip
MAMBA_3B = {"model_type": "mamba", "num_hidden_layers": 64, "hidden_size": 2560, "state_size": 16, "conv_kernel": 4,
            "expand": 2, "vocab_size": 50280}  # fmt: skip
GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
NF4 = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}

MODELS: Mapping[str, tuple[Config, dict[str, Tensor]]] = {
    "Qwen2.5-0.5B": (QWEN25_05B, in_16_bits(QWEN25_05B)),
    "gemma-3-1b": (GEMMA3_1B, in_16_bits(GEMMA3_1B)),
    "Mistral-7B-v0.1": (MISTRAL_7B, in_16_bits(MISTRAL_7B)),
    "Qwen2.5-7B-GPTQ-Int4": (QWEN25_7B | GPTQ, in_gptq(QWEN25_7B)),
    "Qwen2.5-7B-AWQ": (QWEN25_7B | AWQ, in_gptq(QWEN25_7B, awq=True)),
    "Llama-3.1-8B": (LLAMA_8B, in_16_bits(LLAMA_8B)),
    "Llama-3.1-8B-nf4": (LLAMA_8B | NF4, in_nf4(LLAMA_8B)),
    "gemma-2-9b": (GEMMA2_9B, in_16_bits(GEMMA2_9B)),
    "gpt-oss-20b": (GPT_OSS_20B, gpt_oss(GPT_OSS_20B)),
    "Qwen3-30B-A3B": (QWEN3_30B, in_16_bits(QWEN3_30B)),
    "Mixtral-8x7B": (MIXTRAL, in_16_bits(MIXTRAL)),
    "Llama-3.1-70B": (LLAMA_70B, in_16_bits(LLAMA_70B)),
    "DeepSeek-V3": (DEEPSEEK_V3, in_fp8(DEEPSEEK_V3)),
}

PARAMETERS = {
    "Qwen2.5-0.5B": 494_032_768,
    "gemma-3-1b": 999_885_952,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Qwen2.5-7B-GPTQ-Int4": 7_615_616_512,
    "Qwen2.5-7B-AWQ": 7_615_616_512,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-8B-nf4": 8_030_261_248,
    "gemma-2-9b": 9_241_705_984,
    "gpt-oss-20b": 20_914_757_184,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Mixtral-8x7B": 46_702_792_704,
    "Llama-3.1-70B": 70_553_706_496,
    "DeepSeek-V3": 671_026_419_200,
}
