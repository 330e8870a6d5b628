"""GGUF files for tests, written by the `gguf` package from tiny checkpoints as llama.cpp's converter would."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy
from gguf import GGMLQuantizationType as Kind
from gguf.quants import quantize
from safetensors.numpy import load_file

_CONTROL, _NORMAL = 3, 1


def permuted(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rows of each head with both halves side by side, pair by pair: what llama.cpp's rotary embedding wants."""
    return weights.reshape(heads, 2, -1, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def packed(weights: numpy.ndarray, kind: str) -> tuple[numpy.ndarray, Kind]:
    """The weights as bytes of a ggml type; K quants, which `gguf` only reads, as random blocks of valid scales."""
    known = Kind[kind]
    if kind == "F32":
        return weights.astype(numpy.float32), known
    if not kind.endswith("_K"):
        return quantize(weights.astype(numpy.float32), known), known
    numbers, size = gguf.GGML_QUANT_SIZES[known]
    blocks = numpy.random.default_rng(0).integers(0, 256, (*weights.shape[:-1], weights.shape[-1] // numbers, size))
    blocks = blocks.astype(numpy.uint8)
    for start in {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind]:
        blocks[..., start : start + 2] = numpy.frombuffer(numpy.float16(0.002).tobytes(), numpy.uint8)
    return blocks.reshape(*weights.shape[:-1], -1), known


def write_gguf(
    path: Path,
    checkpoint: Path,
    architecture: str,
    kind: str = "F32",
    *,
    template: str | None = None,
    change: Callable[[str, numpy.ndarray], numpy.ndarray] = lambda name, weights: weights,
    extra: Mapping[str, numpy.ndarray] | None = None,
    without: str = "",
    **said: Any,
) -> Path:
    """The checkpoint in a folder as a GGUF file, its matrices in `kind`.

    `said` goes over the metadata, with its dots or `__`; `extra` tensors are added, and one can be left out.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    entries = {
        "context_length": config["max_position_embeddings"],
        "block_count": config["num_hidden_layers"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
    }
    for key, value in entries.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    writer.add_float32(f"{architecture}.rope.freq_base", config["rope_parameters"]["rope_theta"])
    for key, value in said.items():
        entry = key.replace("__", ".")
        writer.kv_data[0].pop(entry, None)
        {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](entry, value)
    _add_vocabulary(writer, checkpoint, template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        weights = change(target, tensor)
        if target == without:
            continue
        each = heads.get(target.split(".")[-2]) if architecture == "llama" else None
        data, raw = packed(permuted(weights, each) if each else weights, kind if weights.ndim > 1 else "F32")
        writer.add_tensor(target, data, raw_dtype=raw)
    for name, numbers in (extra or {}).items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Path, template: str | None) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    ids = dict(tokenizer["model"]["vocab"])
    special = {each["content"]: each["id"] for each in tokenizer["added_tokens"]}
    texts = sorted({**ids, **special}, key={**ids, **special}.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([_CONTROL if text in special else _NORMAL for text in texts])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(special["<|im_end|>"])
    if template:
        writer.add_chat_template(template)
