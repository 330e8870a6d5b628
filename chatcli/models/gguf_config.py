"""From a GGUF file's metadata to what config.json and generation_config.json would say.

Everything that the file states of the model's shape is written down, since a configuration's defaults are those of
one checkpoint. It reads headers and the few numbers that stretch a rotary embedding, no weights.
"""

from __future__ import annotations

import struct
from typing import Any

from chatcli.errors import BrokenCheckpoint
from chatcli.models.gguf_families import FAMILIES, KEYS, Family
from chatcli.models.gguf_file import GgufFile, GgufTensor

_ENDS = ("eos", "eot", "eom")
_REQUIRED = ("context_length", "block_count", "embedding_length", "feed_forward_length", "attention.head_count")


def family(file: GgufFile) -> Family:
    """The row that reads this file.

    Raises:
        BrokenCheckpoint: no row does; or the file is a part of a model, such as an adapter or a projector.
    """
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise BrokenCheckpoint(
            f"{file.files[0]} is no whole model (it says it is: {kind}): name the model that it belongs to."
        )
    name = "mixtral" if file.architecture == "llama" and file.of_family("expert_count") else file.architecture
    require_family(name or "that it does not name", str(file.files[0]))
    return FAMILIES[name]


def require_family(name: str, where: str) -> None:
    """Pass over a family that can be read from GGUF, and over one that is not known yet, which has no name.

    Raises:
        BrokenCheckpoint: it cannot.
    """
    if name and name not in FAMILIES:
        raise BrokenCheckpoint(
            f"{where} holds a model of the family {name}, which cannot be read from GGUF ({', '.join(FAMILIES)} can): "
            "use its original safetensors checkpoint."
        )


def config(file: GgufFile) -> dict[str, Any]:
    """What config.json would say.

    Raises:
        BrokenCheckpoint: the family is not known, or the metadata lack what makes up a model.
    """
    row = family(file)
    for key in _REQUIRED:
        if file.of_family(key) is None:
            raise BrokenCheckpoint(f"{file.files[0]} does not say {file.architecture}.{key}: get the model again.")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise BrokenCheckpoint(f"{file.files[0]} has no token_embd.weight, so it holds no whole model.")
    keys = {**KEYS, **row.keys}
    said = {name: value for key, name in keys.items() if (value := file.of_family(key)) is not None}
    heads = int(said["num_attention_heads"])
    width = _head_width(file, said["hidden_size"], heads)
    said |= {
        "model_type": row.model_type,
        "architectures": [row.architecture],
        "vocab_size": embedding.shape[0],
        "num_key_value_heads": said.get("num_key_value_heads", heads),
        "head_dim": width,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        **_biases(file),
        **_rotary(file, width),
        **{f"{name}_token_id": _token(file, key) for name, key in _SPECIAL},
        **row.fixed,
    }
    if said.get("sliding_window") == 0:  # how llama.cpp writes that there is none
        said["sliding_window"] = None
    if row.wide:
        wide = said["num_hidden_layers"] == row.wide
        said["query_pre_attn_scalar"] = said["hidden_size"] // heads if wide else width
    return said


def generation_config(file: GgufFile) -> dict[str, Any]:
    """What generation_config.json would say: every token that ends a reply."""
    ends = {token for name in _ENDS if (token := _token(file, name)) is not None}
    return {"eos_token_id": sorted(ends)} if ends else {}


_SPECIAL = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))


def _token(file: GgufFile, name: str) -> int | None:
    found = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
    return found if isinstance(found, int) and 0 <= found < len(tokens(file)) else None


def tokens(file: GgufFile) -> list[str]:
    """The vocabulary, by ids; empty where the file has none."""
    found = file.metadata.get("tokenizer.ggml.tokens")
    return found if isinstance(found, list) else []


def _head_width(file: GgufFile, hidden: int, heads: int) -> int:
    """What a head is wide: as said, as the queries' weights are, or the share of the model's width."""
    said = file.of_family("attention.key_length")
    queries = file.tensors.get("blk.0.attn_q.weight")
    if isinstance(said, int):
        return said
    return (queries.shape[0] if queries and queries.shape else hidden) // max(heads, 1)


def _biases(file: GgufFile) -> dict[str, bool]:
    names = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
    return {key: tensor in file.tensors for key, tensor in names.items()}


def _rotary(file: GgufFile, width: int) -> dict[str, Any]:
    """How positions are turned and stretched.

    The factors by which Llama 3 stretches each frequency are a tensor here; transformers takes such factors from
    "longrope" alone, where the short and the long ones may be the same.
    """
    found: dict[str, Any] = {}
    turned = file.of_family("rope.dimension_count")
    if isinstance(turned, int) and turned < width:
        found["partial_rotary_factor"] = turned / width
    long, short = (file.tensors.get(f"rope_factors_{each}.weight") for each in ("long", "short"))
    if frequencies := file.tensors.get("rope_freqs.weight"):
        factors = _numbers(frequencies)
        scaling: dict[str, Any] = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors}
        scaling |= {"attention_factor": 1.0, "factor": 1.0}
        scaling["original_max_position_embeddings"] = file.of_family("context_length")
    elif long and short:
        scaling = {"rope_type": "longrope", "short_factor": _numbers(short), "long_factor": _numbers(long)}
    elif (kind := file.of_family("rope.scaling.type")) in ("linear", "yarn"):
        scaling = {"rope_type": kind, "factor": file.of_family("rope.scaling.factor") or 1.0}
        if original := file.of_family("rope.scaling.original_context_length"):
            scaling["original_max_position_embeddings"] = original
    else:
        return found
    return {**found, "rope_scaling": scaling}


def _numbers(tensor: GgufTensor) -> list[float]:
    """A small tensor of float32, read whole."""
    if tensor.kind != "F32" or tensor.bytes > 1 << 20:
        raise BrokenCheckpoint(f"{tensor.file} has rotary factors in a form that is not known: get another file.")
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        return list(struct.unpack(f"<{tensor.bytes // 4}f", file.read(tensor.bytes)))
