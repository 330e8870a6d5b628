"""The ChatGLM ports in other shapes than the published ones, against a plain computation of the published formulas.

The computation here is written on its own, from the formulas: one token after another, one head after another,
without a cache, without SDPA and without the module's own functions.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime import ports
from chatcli.runtime.model import CausalModel

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
MASK, GMASK, SOP = 84, 85, 88


def save(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tensors, folder / "pytorch_model.bin")
    ports.register()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def first(layers: int, heads: int, width: int, inner: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of a ChatGLM-6B with these sizes."""
    torch.manual_seed(layers * heads + width)
    h = heads * width
    config = {
        **{
            "model_type": "chatglm",
            "vocab_size": 96,
            "hidden_size": h,
            "num_layers": layers,
            "inner_hidden_size": inner,
        },
        **{"num_attention_heads": heads, "layernorm_epsilon": 1e-5, "max_sequence_length": 64, "bos_token_id": SOP},
        **{"eos_token_id": 89, "mask_token_id": MASK, "gmask_token_id": GMASK, "pad_token_id": 3},
    }
    shapes = {"transformer.word_embeddings.weight": (96, h), "transformer.final_layernorm.weight": (h,)}
    shapes["transformer.final_layernorm.bias"] = (h,)
    for i in range(layers):
        at = f"transformer.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{at}{norm}.weight": (h,), f"{at}{norm}.bias": (h,)}
        for name, rows, columns in (
            *(("attention.query_key_value", 3 * h, h), ("attention.dense", h, h)),
            *(("mlp.dense_h_to_4h", inner, h), ("mlp.dense_4h_to_h", h, inner)),
        ):
            shapes |= {f"{at}{name}.weight": (rows, columns), f"{at}{name}.bias": (rows,)}
    return config, {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def turned(x: Tensor, position: int, frequencies: Tensor, *, interleaved: bool) -> Tensor:
    """One head's vector (width,) with its pairs rotated: neighbours, or the two halves of the vector."""
    out = x.clone()
    for j, frequency in enumerate(frequencies):
        a, b = (2 * j, 2 * j + 1) if interleaved else (j, j + len(frequencies))
        c, s = math.cos(position * float(frequency)), math.sin(position * float(frequency))
        out[a], out[b] = x[a] * c - x[b] * s, x[b] * c + x[a] * s
    return out


def plain_first(config: dict[str, Any], t: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Logits (length, vocabulary), as section 1 of the formulas has it."""
    norm = torch.nn.functional.layer_norm
    h, heads, n = config["hidden_size"], config["num_attention_heads"], len(ids)
    width = h // heads
    frequencies = torch.tensor([10000 ** (-2 * j / (width // 2)) for j in range(width // 4)]).half().float()
    context = ids.index(SOP)
    mask = ids.index(GMASK if GMASK in ids else MASK)
    place = [i if i < context else mask for i in range(n)]
    block = [max(0, i - context + 1) for i in range(n)]
    x = t["transformer.word_embeddings.weight"][ids]
    for i in range(config["num_layers"]):
        w = {k.removeprefix(f"transformer.layers.{i}."): v for k, v in t.items() if f".layers.{i}." in k}
        y = norm(x, (h,), w["input_layernorm.weight"], w["input_layernorm.bias"])
        fused = y @ w["attention.query_key_value.weight"].T + w["attention.query_key_value.bias"]
        mixed = torch.zeros(n, h)
        for head in range(heads):
            q, k, v = fused[:, head * 3 * width : (head + 1) * 3 * width].split(width, dim=1)
            half = width // 2
            q, k = (
                torch.stack(
                    [
                        torch.cat(
                            [
                                turned(z[p, :half], place[p], frequencies, interleaved=False),
                                turned(z[p, half:], block[p], frequencies, interleaved=False),
                            ]
                        )
                        for p in range(n)
                    ]
                )
                for z in (q, k)
            )
            for a in range(n):
                seen = [b for b in range(n) if b < context or b <= a]
                shares = torch.softmax(torch.stack([q[a] @ k[b] for b in seen]) / math.sqrt(width), dim=0)
                mixed[a, head * width : (head + 1) * width] = sum(s * v[b] for s, b in zip(shares, seen, strict=True))
        alpha = math.sqrt(56)
        x = alpha * y + mixed @ w["attention.dense.weight"].T + w["attention.dense.bias"]
        y = norm(x, (h,), w["post_attention_layernorm.weight"], w["post_attention_layernorm.bias"])
        z = y @ w["mlp.dense_h_to_4h.weight"].T + w["mlp.dense_h_to_4h.bias"]
        z = 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        x = alpha * y + z @ w["mlp.dense_4h_to_h.weight"].T + w["mlp.dense_4h_to_h.bias"]
    x = norm(x, (h,), t["transformer.final_layernorm.weight"], t["transformer.final_layernorm.bias"])
    return x @ t["transformer.word_embeddings.weight"].T


@pytest.mark.parametrize(("layers", "heads", "width", "inner"), [(1, 1, 8, 12), (2, 3, 16, 40), (4, 2, 8, 60)])
@pytest.mark.parametrize("text", [[5, 9, 14, GMASK, SOP, 7, 8], [5, MASK, 11, 12, 13, SOP, 30, 31, 32]])
def test_the_first_chatglm_in_other_shapes(
    tmp_path: Path, layers: int, heads: int, width: int, inner: int, text: list[int]
) -> None:
    config, tensors = first(layers, heads, width, inner)
    model = save(tmp_path, config, tensors)
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.tensor([text])).logits[0], plain_first(config, tensors, text), atol=2e-4, rtol=0
        )


def later(layers: int, heads: int, groups: int, width: int, **keys: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of a ChatGLM2 or later with these sizes; queries need not be as wide as the model."""
    torch.manual_seed(layers * heads + width)
    h, inner, q, kv = 48, 40, heads * width, groups * width
    config = {
        **{
            "model_type": "chatglm",
            "padded_vocab_size": 96,
            "hidden_size": h,
            "num_layers": layers,
            "ffn_hidden_size": inner,
        },
        **{"num_attention_heads": heads, "kv_channels": width, "multi_query_attention": True, "seq_length": 64},
        **{"multi_query_group_num": groups, "layernorm_epsilon": 1e-5, "add_qkv_bias": True, "eos_token_id": 2, **keys},
    }
    shapes = {"transformer.embedding.word_embeddings.weight": (96, h), "transformer.output_layer.weight": (96, h)}
    shapes["transformer.encoder.final_layernorm.weight"] = (h,)
    for i in range(layers):
        at = f"transformer.encoder.layers.{i}."
        shapes |= {f"{at}input_layernorm.weight": (h,), f"{at}post_attention_layernorm.weight": (h,)}
        shapes[f"{at}self_attention.query_key_value.weight"] = (q + 2 * kv, h)
        if config["add_qkv_bias"]:
            shapes[f"{at}self_attention.query_key_value.bias"] = (q + 2 * kv,)
        shapes |= {f"{at}self_attention.dense.weight": (h, q), f"{at}mlp.dense_h_to_4h.weight": (2 * inner, h)}
        shapes[f"{at}mlp.dense_4h_to_h.weight"] = (h, inner)
    return config, {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def plain_later(config: dict[str, Any], t: dict[str, Tensor], ids: list[int], *, base: float, stretch: float) -> Tensor:
    """Logits (length, vocabulary), as section 2 of the formulas has it; positions are divided by `stretch`."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config["layernorm_epsilon"]) * weight

    heads, groups, width = (config[k] for k in ("num_attention_heads", "multi_query_group_num", "kv_channels"))
    frequencies = torch.tensor([base ** (-2 * j / (width // 2)) / stretch for j in range(width // 4)])
    n = len(ids)
    x = t["transformer.embedding.word_embeddings.weight"][ids]
    for i in range(config["num_layers"]):
        at = f"transformer.encoder.layers.{i}."
        w = {k.removeprefix(at): v for k, v in t.items() if k.startswith(at)}
        y = norm(x, w["input_layernorm.weight"])
        fused = y @ w["self_attention.query_key_value.weight"].T + w.get("self_attention.query_key_value.bias", 0)
        qs, ks, vs = fused.split([heads * width, groups * width, groups * width], dim=1)
        mixed = torch.zeros(n, heads * width)
        for head in range(heads):
            group = head // (heads // groups)
            q = qs[:, head * width : (head + 1) * width]
            k, v = (z[:, group * width : (group + 1) * width] for z in (ks, vs))
            q, k = (torch.stack([turned(z[p], p, frequencies, interleaved=True) for p in range(n)]) for z in (q, k))
            for a in range(n):
                shares = torch.softmax(k[: a + 1] @ q[a] / math.sqrt(width), dim=0)
                mixed[a, head * width : (head + 1) * width] = shares @ v[: a + 1]
        x = x + mixed @ w["self_attention.dense.weight"].T
        gate, up = (norm(x, w["post_attention_layernorm.weight"]) @ w["mlp.dense_h_to_4h.weight"].T).chunk(2, dim=1)
        x = x + (gate * torch.sigmoid(gate) * up) @ w["mlp.dense_4h_to_h.weight"].T
    return norm(x, t["transformer.encoder.final_layernorm.weight"]) @ t["transformer.output_layer.weight"].T


@pytest.mark.parametrize(
    ("shape", "keys", "base", "stretch"),
    [
        ((1, 2, 1, 16), {}, 1e4, 1),
        ((3, 6, 3, 8), {"add_qkv_bias": False}, 1e4, 1),
        ((2, 4, 4, 16), {"layernorm_epsilon": 1.5625e-07, "rope_ratio": 500}, 5e6, 1),
        ((2, 4, 2, 32), {"rope_ratio": 50, "_name_or_path": "THUDM/chatglm3-6b-32k"}, 5e5, 1),
        ((2, 4, 2, 16), {"rope_ratio": 16, "_name_or_path": "THUDM/chatglm2-6b-32k"}, 1e4, 16),
    ],
)
def test_the_later_ones_in_other_shapes(
    tmp_path: Path, shape: tuple[int, int, int, int], keys: dict[str, Any], base: float, stretch: float
) -> None:
    config, tensors = later(*shape, **keys)
    model = save(tmp_path, config, tensors)
    text = [5, 9, 14, 22, 7, 8, 61, 2, 90]
    expected = plain_later(config, tensors, text, base=base, stretch=stretch)
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([text])).logits[0], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("make", [lambda: first(2, 3, 16, 40), lambda: later(2, 4, 2, 16)], ids=["first", "later"])
def test_packed_weights_of_other_shapes(tmp_path: Path, bits: int, make: Any) -> None:
    """Packed here by the published rule, and compared with the model of the rounded matrices."""
    config, tensors = make()
    packed, rounded = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if weight.dim() == 2 and "embedding" not in name and "output" not in name:
            scale = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
            q = (weight / scale[:, None]).round().to(torch.int8)
            rounded[name] = q * scale[:, None]
            packed[name] = q if bits == 8 else ((q[:, ::2] << 4) | (q[:, 1::2] & 15))
            packed[f"{name}_scale"] = scale
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = save(tmp_path / "a", {**config, "quantization_bit": bits}, packed)
    plain = save(tmp_path / "b", config, rounded)
    state = plain.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_far_positions_apart(tmp_path: Path, dtype: torch.dtype) -> None:
    """Positions above 256 have no place in bfloat16: angles must be made in float32 (the original's were not)."""
    config, tensors = first(2, 2, 16, 40)
    exact = save(tmp_path, config, tensors)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype).eval()
    text = torch.tensor([[5 + i % 70 for i in range(600)] + [GMASK, SOP, 7, 8]])
    with torch.no_grad():
        expected, made = exact(text).logits, half(text).logits.float()
    assert (made - expected).abs().max() < 0.05 * expected.abs().max()


def test_our_own_loop_reads_a_long_context_at_once(tmp_path: Path) -> None:
    """Cut into chunks of 512, its first part would not see the rest."""
    config, tensors = first(2, 2, 16, 40)
    model = save(tmp_path, config, tensors)
    prompt = [5 + i % 70 for i in range(900)] + [GMASK, SOP]
    expected = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=6, eos_token_id=None)
    made = [i for i in CausalModel(model).generate(prompt, GREEDY, end=(), limit=6) if isinstance(i, int)]
    assert made == expected[0, len(prompt) :].tolist()
