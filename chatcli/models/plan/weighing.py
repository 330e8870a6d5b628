"""What a model's weights take in each precision, told from the tensors' headers and config.json.

What is assumed of packing to int8, int4 and fp8 is in `packed_bytes` and `is_packed` alone, so that who packs and who
plans agree: weights only, those of linear layers, an int8 or fp8 weight with a scale for each row, an int4 weight with
a scale and a zero for each group of 128. Embeddings, the output head, norms and routers stay in the dtype, and so do
experts, which transformers joins to one tensor that is no linear layer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from chatcli.load_request import Quantization
from chatcli.models.chatglm import growth
from chatcli.models.checkpoint import text_config
from chatcli.models.plan.talk import number
from chatcli.models.weights import Tensor

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GROUP = 128
"""Weights of an int4 row that share a scale and a zero."""

_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_HEAD = re.compile(r"(lm_head|embed_out|output_layer|(^|\.)output)\.weight$")
_EMBEDDING = re.compile(r"(embed|\bwte\b|\bwpe\b|\bshared\.weight$)")
_NO_LINEAR = re.compile(r"\.experts\.|(router|\.gate|norm|conv1d)\.weight$")
_CONV1D = frozenset({"gpt2", "openai-gpt"})
"""Families whose layers are transformers' Conv1D and no linear ones."""
_NOT_LOADED = re.compile(r"(^|\.)mtp\.|rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
_LAYER = re.compile(r"^(?:model\.|language_model\.|transformer\.)*(?:layers|h|blocks)\.(\d+)\.")
_BLOCK = re.compile(r"^(.*?\.\d+)\.")
_OF_A_PACKING = re.compile(
    r"(scales?|zeros|g_idx|scale_inv|zero_point|weight_shape|global_scale|SCB|absmax|quant_map|weight_format)$"
    r"|\.(nested_|quant_state)"
)
_UNPACKED_OFF_GPU = frozenset({"fp8", "mxfp4"})
"""Packings that transformers computes on a GPU only; elsewhere it unpacks them as it loads."""


def packing(config: Mapping[str, Any]) -> str:
    """How the files hold the weights packed, such as "gptq" or "fp8"; empty where they do not."""
    for part in (config, text_config(config)):
        said = part.get("quantization_config") or part.get("compression_config")
        if isinstance(said, Mapping):
            return str(said.get("quant_method") or "bitsandbytes").lower()
    return ""


def unpacks(config: Mapping[str, Any], kind: str) -> bool:
    """Whether weights that are packed in the files are not any more on a device of this kind."""
    return packing(config) in _UNPACKED_OFF_GPU and kind not in ("cuda", "xpu")


def is_packed(config: Mapping[str, Any], name: str, tensor: Tensor) -> bool:
    """Whether a tensor is the weight of a linear layer, which int8, int4 and fp8 pack."""
    return (
        len(tensor.shape) == 2
        and tensor.dtype in _FLOATS
        and name.endswith(".weight")
        and not any(pattern.search(name) for pattern in (_HEAD, _EMBEDDING, _NO_LINEAR))
        and config.get("model_type") not in _CONV1D
    )


def packed_bytes(shape: tuple[int, ...], quantization: Quantization, dtype: str) -> int:
    """Bytes of a linear layer's weight (out, in) in a packing; an int4 row that no groups divide stays as it is."""
    count, rows = math.prod(shape), shape[0]
    if quantization in ("int8", "fp8"):
        return count + rows * BYTES[dtype]
    if quantization == "int4" and shape[-1] % GROUP == 0:
        return count // 2 + count // GROUP * 2 * BYTES[dtype]
    return count * BYTES[dtype]


def loaded(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are in memory after loading.

    A head that is tied to the embedding is the embedding; layers beyond the model's number predict further tokens at
    training; masks and frequencies are computed.
    """
    part = text_config(config)
    count = number(part, "num_hidden_layers", "num_layers", "n_layer", "n_layers")
    tied = part.get("tie_word_embeddings", config.get("tie_word_embeddings")) is True
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = _LAYER.match(name)
        beyond = layer and count and int(layer[1]) >= count
        if not (beyond or _NOT_LOADED.search(name) or (tied and _HEAD.search(name))):
            kept[name] = tensor
    return kept


def parameters(config: Mapping[str, Any], tensors: Mapping[str, Tensor], stored_bytes: int = 0) -> int:
    """How many numbers the model has, packed or not."""
    if not tensors:
        return stored_bytes // BYTES.get(declared(config), 2)
    return sum(_numbers(config, name, each) for name, each in loaded(config, tensors).items())


def _numbers(config: Mapping[str, Any], name: str, tensor: Tensor) -> int:
    """How many of the model's numbers a tensor holds: none if it only tells how others are packed."""
    method, count = packing(config), math.prod(tensor.shape)
    if not method:
        return count
    if _OF_A_PACKING.search(name):
        return 0
    if name.endswith("_blocks") or (method == "bitsandbytes" and tensor.dtype == "U8"):
        return count * 2
    if tensor.dtype == "I32":
        return count * 32 // _bits(config)
    return count


def _bits(config: Mapping[str, Any]) -> int:
    """Bits of a packed weight; 4 where config.json does not say."""
    said = config.get("quantization_config") or text_config(config).get("quantization_config") or {}
    groups = said.get("config_groups") or {}
    inner = [g.get("weights") or {} for g in groups.values()] if isinstance(groups, Mapping) else []
    found = (number(part, "bits", "w_bit", "num_bits") for part in (said, *inner))
    return next((bits for bits in found if bits), 4)


def weights_bytes(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: str,
    quantization: Quantization = "none",
    *,
    unpack: bool = False,
    stored_bytes: int = 0,
) -> int:
    """Bytes of all weights after loading: floating ones cast to `dtype`, packed ones as they are unless `unpack`."""
    if not tensors:
        return _of_unknown(config, dtype, quantization, stored_bytes)
    return sum(_sizes(config, tensors, dtype, quantization, unpack=unpack).values())


def largest_layer_bytes(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: str,
    quantization: Quantization = "none",
    *,
    unpack: bool = False,
    total: int = 0,
) -> int:
    """Bytes of the largest part that is placed as a whole: a layer, or an embedding. A guess from `total` else."""
    if not tensors:
        return total // max(number(text_config(config), "num_hidden_layers", "num_layers", "n_layer"), 1)
    blocks: Counter[str] = Counter()
    for name, size in _sizes(config, tensors, dtype, quantization, unpack=unpack).items():
        found = _BLOCK.match(name)
        blocks[found[1] if found else name] += size
    return max(blocks.values(), default=0)


def _sizes(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: str, quantization: Quantization, *, unpack: bool
) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, tensor in loaded(config, tensors).items():
        if quantization != "none" and is_packed(config, name, tensor):
            sizes[name] = packed_bytes(tensor.shape, quantization, dtype)
        elif unpack:
            sizes[name] = _numbers(config, name, tensor) * BYTES[dtype]
        elif tensor.dtype in _FLOATS and not (packing(config) and _OF_A_PACKING.search(name)):
            sizes[name] = math.prod(tensor.shape) * BYTES[dtype]
        else:
            sizes[name] = tensor.bytes
    return sizes


def _of_unknown(config: Mapping[str, Any], dtype: str, quantization: Quantization, stored_bytes: int) -> int:
    """The same for `.bin` files, of which the size alone is known."""
    kept = declared(config)
    size = stored_bytes * BYTES[dtype] // BYTES[kept] if kept else stored_bytes
    if config.get("model_type") == "chatglm":
        size += growth(config, BYTES[dtype])
    if quantization == "none":
        return size
    part = text_config(config)
    tables = 1 if part.get("tie_word_embeddings") else 2
    apart = number(part, "vocab_size", "padded_vocab_size") * number(part, "hidden_size", "n_embd") * tables
    linear = max(size // BYTES[dtype] - apart, 0)
    return size - linear * BYTES[dtype] + packed_bytes((linear // GROUP // 32, GROUP * 32), quantization, dtype)


def stored(tensors: Iterable[Tensor]) -> str:
    """The floating type that most bytes are stored in, by torch's name; empty where there is none."""
    count: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in _FLOATS:
            count[tensor.dtype] += tensor.bytes
    return _TORCH.get(count.most_common(1)[0][0], "float32") if count else ""


_TORCH = {short: name for name, short in _NAMES.items()}


def declared(config: Mapping[str, Any]) -> str:
    """The same from config.json, for `.bin` files, whose tensors are unknown; empty where it does not say."""
    for part in (config, text_config(config)):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in BYTES:
                return str(part[key])
    return ""
