"""A GGUF file as the state dict of a transformers checkpoint, each tensor read and unpacked when it is asked for.

transformers loads from it as it does from safetensors: to every place, in every precision, one tensor at a time. It
knows how llama.cpp stores a family's weights, and no configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from chatcli.errors import BrokenCheckpoint
from chatcli.models.gguf_config import family
from chatcli.models.gguf_families import EXPERTS, LAYER, TOP, Family
from chatcli.models.gguf_file import GgufFile, GgufTensor
from chatcli.runtime.ggml import require_readable, unpack

_ROTARY = ("rope_freqs", "rope_factors_long", "rope_factors_short")
"""Tensors that the configuration has taken up."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file. Indexing it reads it, as a slice of safetensors does."""

    stored: GgufTensor
    dtype: torch.dtype
    device: torch.device
    change: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
    exact: bool = False

    def get_shape(self) -> list[int]:
        """The shape, in torch's order."""
        return list(self.stored.shape)

    def get_dtype(self) -> str:
        """What it is read as, in safetensors' words."""
        return {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[self.dtype]

    def __getitem__(self, index: Any) -> torch.Tensor:
        """The numbers of it, in `dtype` on `device`; `exact` ones are changed before they are rounded."""
        tensor = self.stored
        with tensor.file.open("rb") as file:
            file.seek(tensor.offset)
            content = bytearray(tensor.bytes)
            if file.readinto(content) != tensor.bytes:
                raise BrokenCheckpoint(f"{tensor.file} has become shorter while it was read: download it again.")
        data = torch.frombuffer(content, dtype=torch.uint8).to(self.device)
        numbers = unpack(data, tensor.kind, torch.float32 if self.exact else self.dtype).view(tensor.shape)
        return self.change(numbers).to(self.dtype)[index]

    def expert(self, number: int) -> StoredTensor:
        """One of the weights that lie behind each other in a tensor of all experts."""
        tensor = self.stored
        size = tensor.bytes // tensor.shape[0]
        part = replace(tensor, shape=tensor.shape[1:], offset=tensor.offset + number * size, bytes=size)
        return replace(self, stored=part)


def state_dict(file: GgufFile, config: Any, dtype: torch.dtype, device: torch.device) -> dict[str, StoredTensor]:
    """The tensors by the names of transformers' checkpoints, for the transformers `config` made of the metadata.

    Raises:
        BrokenCheckpoint: a tensor's place in the model is not known, or its format needs a package that is missing.
    """
    row = family(file)
    require_readable({tensor.kind for tensor in file.tensors.values()})
    found: dict[str, StoredTensor] = {}
    for name, tensor in file.tensors.items():
        leaf, _, part = name.removeprefix("blk.").rpartition(".")
        if leaf in _ROTARY or leaf.endswith("rope_freqs"):
            continue
        found |= _named(row, name, leaf, part, StoredTensor(tensor, dtype, device, *_change(row, leaf, config)))
    return found


def _named(row: Family, name: str, leaf: str, part: str, stored: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    if not name.startswith("blk."):
        if leaf not in TOP:
            raise _unknown(stored, name)
        yield f"{TOP[leaf]}.{part}", stored
        return
    number, _, leaf = leaf.partition(".")
    layer, experts = {**LAYER, **row.layer}, row.experts or EXPERTS
    if leaf in experts:
        for each in range(stored.stored.shape[0]):
            yield f"model.layers.{number}.{experts[leaf].format(each)}.{part}", stored.expert(each)
    elif leaf in layer:
        yield f"model.layers.{number}.{layer[leaf]}.{part}", stored
    else:
        raise _unknown(stored, name)


def _unknown(stored: StoredTensor, name: str) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{stored.stored.file} holds a tensor {name}, which has no place in its family: use the original checkpoint."
    )


def _change(row: Family, leaf: str, config: Any) -> tuple[Callable[[torch.Tensor], torch.Tensor], bool]:
    """What undoes llama.cpp's own way of storing a tensor, and whether to do it in float32."""
    kind = leaf.rpartition(".")[2]
    if row.offset and kind.endswith("norm"):
        return (lambda tensor: tensor - 1), True
    if row.permuted and kind in ("attn_q", "attn_k"):
        heads = config.num_attention_heads if kind == "attn_q" else config.num_key_value_heads
        return (lambda tensor: _apart(tensor, heads)), False
    if kind == "ffn_gate_inp_shexp":
        return (lambda tensor: tensor.view(1, -1)), False
    return (lambda tensor: tensor), False


def _apart(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of each head, of which pairs lie side by side, as transformers wants them: first halves, then second."""
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
