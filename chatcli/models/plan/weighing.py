"""What a model's weights take in each precision, told from the tensors' headers and config.json.

What is assumed of packing to int8, int4 and fp8 is in `packed_bytes` and `is_packed` alone, so that who packs and who
plans agree: weights only, those of linear layers and of experts; with a scale for each row, of two bytes in int8 and of
four in fp8; in int4 with a scale and a zero of two bytes for each group of 32. An output head becomes int8 on a CPU,
where a token would spend a third of its time on it (`head_packing`), and so does one that is the embedding, too
(`packs_table`). Other embeddings, norms and routers stay in the dtype. Files of GPTQ and AWQ become the same int4 or
int8 layers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.load_request import Quantization
from chatcli.models.chatglm import growth
from chatcli.models.checkpoint import text_config
from chatcli.models.gguf_file import QUANTISED
from chatcli.models.plan.talk import number
from chatcli.models.plan.values import Device
from chatcli.models.quantized import quant_method, quantization_config
from chatcli.models.weights import Tensor

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GROUP = 32
"""Weights of an int4 row that share a scale and a zero."""

_TORCH = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"}) | QUANTISED
_HEAD = re.compile(r"(lm_head|embed_out|output_layer|(^|\.)output)\.weight$")
_EMBEDDING = re.compile(r"(embed|\bwte\b|\bwpe\b|\bshared\.weight$)")
_NO_LINEAR = re.compile(r"(router|\.gate|shared_expert_gate|norm|conv1d)\.weight$")
_JOINED = re.compile(r"\.experts\.(gate_up_proj|down_proj|gate_proj|up_proj)(\.weight)?$")
"""A projection of all experts of a layer in one tensor."""
_PACKED_PARTS = (".qweight", ".qzeros", ".scales", ".g_idx")
_CONV1D = frozenset({"gpt2", "openai-gpt"})
"""Families whose layers are transformers' Conv1D and no linear ones."""
_NOT_LOADED = re.compile(r"(^|\.)mtp\.|rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
_LAYER = re.compile(r"^(?:model\.|language_model\.|transformer\.)*(?:layers|h|blocks)\.(\d+)\.")
_BLOCK = re.compile(r"^(.*?\.\d+)\.")
_OF_A_PACKING = re.compile(
    r"(scales?|zeros|g_idx|scale_inv|zero_point|weight_shape|global_scale|SCB|absmax|quant_map|weight_format)$"
    r"|\.(nested_|quant_state)"
)
_WITH_KERNELS = frozenset({"fp8", "mxfp8", "mxfp4"})
"""Packings that are computed on a GPU with the package `kernels`; else they are unpacked as they load."""
_TAKEN_OVER = frozenset({"gptq", "awq"})
"""Packings whose weights become our own int4 or int8 layers."""


def unpacks(config: Mapping[str, Any], device: Device) -> bool:
    """Whether weights that are packed in the files are not any more on a device."""
    return quant_method(config) in _WITH_KERNELS and not (device.kernels and device.kind in ("cuda", "xpu"))


def is_packed(config: Mapping[str, Any], name: str, tensor: Tensor) -> bool:
    """Whether a tensor is the weight of a linear layer or of experts, which int8, int4 and fp8 pack."""
    if tensor.dtype not in _FLOATS or config.get("model_type") in _CONV1D:
        return False
    if len(tensor.shape) == 3:
        return bool(_JOINED.search(name))
    return (
        len(tensor.shape) == 2
        and name.endswith(".weight")
        and not any(pattern.search(name) for pattern in (_HEAD, _EMBEDDING, _NO_LINEAR))
    )


def head_packing(quantization: Quantization, kind: str) -> Quantization:
    """What an output head is packed to on a kind of device, where linear layers are packed so."""
    return "int8" if kind == "cpu" and quantization in ("int8", "int4") else "none"


def packs_table(config: Mapping[str, Any]) -> bool:
    """Whether an embedding that is the output head, too, is packed with it: in models that write, unless it scales."""
    writes = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or ())
    scales = str(config.get("model_type", "")).startswith("gemma")
    return writes and not scales and not config.get("is_encoder_decoder")


def packed_bytes(numbers: int, rows: int, grouped: int, quantization: Quantization, dtype: str) -> int:
    """Bytes of the weights of linear layers in a packing.

    They have `rows` rows together; `grouped` of their `numbers` are in rows that int4's groups divide, and the others
    stay as they are.
    """
    if quantization in ("int8", "fp8"):
        return numbers + rows * (2 if quantization == "int8" else 4)
    if quantization == "int4":
        return grouped // 2 + grouped // GROUP * 4 + (numbers - grouped) * BYTES[dtype]
    return numbers * BYTES[dtype]


@dataclass(slots=True)
class Block:
    """The tensors of one layer, or one that is in none, by what loading does to them.

    `linear`, `head` and `floating` are numbers that are cast, the first two packed where that is wanted, and `words`
    the rows of a head that is the embedding, too, whose scales are there in the dtype as well; `kept` are bytes that
    stay as the files have them; `numbers` are the model's, packed or not. `widest` are those of its largest matrix.
    """

    linear: int = 0
    head: int = 0
    words: int = 0
    rows: int = 0
    grouped: int = 0
    floating: int = 0
    kept: int = 0
    numbers: int = 0
    widest: int = 0

    def bytes(self, dtype: str, quantization: Quantization, *, head: Quantization, unpack: bool) -> int:
        """What it takes after loading."""
        if unpack:
            return self.numbers * BYTES[dtype]
        rows = 0 if self.head else self.rows
        packed = packed_bytes(self.linear, rows, self.grouped, quantization, dtype)
        packed += packed_bytes(self.head, self.rows - rows, 0, head, dtype)
        scales = 0 if head == "none" else self.words
        return packed + (self.floating + scales) * BYTES[dtype] + self.kept


@dataclass(frozen=True, slots=True)
class Weighed:
    """A model on the scales: what it takes in every precision, after one look at each of its tensors.

    Of `.bin` files, whose tensors are unknown, there are no blocks, and `stored_bytes` has to do.
    """

    config: Mapping[str, Any]
    stored_bytes: int
    blocks: tuple[Block, ...]
    stored: str

    @property
    def parameters(self) -> int:
        """How many numbers the model has, packed or not."""
        return sum(each.numbers for each in self.blocks) or self.stored_bytes // BYTES.get(self.stored, 2)

    def bytes(
        self, dtype: str, quantization: Quantization = "none", *, head: Quantization = "none", unpack: bool = False
    ) -> int:
        """All weights after loading: floating ones cast to `dtype`, packed ones as they are unless `unpack`."""
        if self.blocks:
            return sum(each.bytes(dtype, quantization, head=head, unpack=unpack) for each in self.blocks)
        size = self.stored_bytes * BYTES[dtype] // BYTES[self.stored] if self.stored else self.stored_bytes
        if self.config.get("model_type") == "chatglm":
            size += growth(self.config, BYTES[dtype])
        if quantization == "none":
            return size
        part = text_config(self.config)
        words, wide = number(part, "vocab_size", "padded_vocab_size"), number(part, "hidden_size", "n_embd") or 1
        tied = bool(part.get("tie_word_embeddings"))
        linear = max(size // BYTES[dtype] - words * wide * (1 if tied else 2), 0)
        last = 0 if tied and (head == "none" or not packs_table(self.config)) else words * wide
        packed = packed_bytes(linear, linear // wide, linear, quantization, dtype)
        packed += packed_bytes(last, words, 0, head, dtype) + (words * BYTES[dtype] if tied and last else 0)
        return size - (linear + last) * BYTES[dtype] + packed

    def unpacked_for_a_moment(self, quantization: Quantization, dtype: str) -> int:
        """What a product with packed weights takes where no kernel reads them: the largest matrix in the dtype."""
        if quantization == "none" and quant_method(self.config) not in _TAKEN_OVER:
            return 0
        return max((each.widest for each in self.blocks), default=0) * BYTES[dtype]

    def largest(
        self, dtype: str, quantization: Quantization = "none", *, head: Quantization = "none", unpack: bool = False
    ) -> int:
        """The largest part that is placed as a whole: a layer, or an embedding."""
        if self.blocks:
            return max(each.bytes(dtype, quantization, head=head, unpack=unpack) for each in self.blocks)
        layers = number(text_config(self.config), "num_hidden_layers", "num_layers", "n_layer", "n_layers") or 1
        return self.bytes(dtype, quantization, head=head, unpack=unpack) // layers


def weigh(config: Mapping[str, Any], tensors: Mapping[str, Tensor], stored_bytes: int = 0) -> Weighed:
    """Look at each tensor once."""
    blocks: dict[str, Block] = {}
    method, bits = quant_method(config), _bits(config)
    floating: Counter[str] = Counter()
    there = loaded(config, tensors)
    part = text_config(config)
    words = number(part, "vocab_size", "padded_vocab_size")
    tied = packs_table(config) and not any(_HEAD.search(name) for name in there)
    for name, tensor in there.items():
        found = _BLOCK.match(name)
        block = blocks.setdefault(found[1] if found else name, Block())
        count, told = math.prod(tensor.shape), bool(method and _OF_A_PACKING.search(name))
        numbers = 0 if told else count * _in_one(method, name, tensor, bits)
        block.numbers += numbers
        if tensor.dtype in _FLOATS:
            floating[tensor.dtype] += tensor.bytes
        if method in _TAKEN_OVER and name.endswith(_PACKED_PARTS):
            if name.endswith(".qweight"):
                block.kept += packed_bytes(numbers, 0, numbers, "int4" if bits == 4 else "int8", "bfloat16")
                block.widest = max(block.widest, numbers)
        elif told or tensor.dtype not in _FLOATS:
            block.kept += tensor.bytes
        elif is_packed(config, name, tensor):
            block.linear += count
            block.rows += count // tensor.shape[-1]
            block.grouped += count if tensor.shape[-1] % GROUP == 0 else 0
            block.widest = max(block.widest, math.prod(tensor.shape[-2:]))
        elif len(tensor.shape) == 2 and _HEAD.search(name):
            block.head += count
            block.rows += tensor.shape[0]
        elif tied and len(tensor.shape) == 2 and tensor.shape[0] == words and _EMBEDDING.search(name):
            block.head += count
            block.rows += words
            block.words += words
        else:
            block.floating += count
    most = floating.most_common(1)[0][0] if floating else ""
    # Blocks of a GGUF file hold less than bfloat16 does.
    kept = ("bfloat16" if most in QUANTISED else _TORCH.get(most, "float32")) if most else declared(config)
    return Weighed(config, stored_bytes, tuple(blocks.values()), kept)


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


def _in_one(method: str, name: str, tensor: Tensor, bits: int) -> int:
    """How many of the model's numbers are in one of a tensor's."""
    if method and (name.endswith("_blocks") or (method == "bitsandbytes" and tensor.dtype == "U8")):
        return 2
    return 32 // bits if method and tensor.dtype == "I32" else 1


def _bits(config: Mapping[str, Any]) -> int:
    """Bits of a packed weight; 4 where config.json does not say."""
    said = quantization_config(config)
    groups = said.get("config_groups")
    inner = [g.get("weights") for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []
    parts = (said, *(each for each in inner if isinstance(each, Mapping)))
    return next((bits for part in parts if (bits := number(part, "bits", "w_bit", "num_bits"))), 4)


def declared(config: Mapping[str, Any]) -> str:
    """The same from config.json, for `.bin` files, whose tensors are unknown; empty where it does not say."""
    for part in (config, text_config(config)):
        for key in ("dtype", "torch_dtype"):
            if isinstance(said := part.get(key), str) and said in BYTES:
                return said
    return ""
