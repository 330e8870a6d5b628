"""Weights that GPTQ and AWQ packed, taken from their files into our int4 and int8 layers without being unpacked.

Both hold (input, output) matrices of small integers in int32 words, with a scale and a zero for each group of inputs:
weight = (code - zero) * scale. An int4 layer takes the codes as they are; those of 8 bits are packed anew, a scale a
row. The layouts are those of AutoGPTQ (`checkpoint_format` "gptq", whose zeros are one too small, and "gptq_v2") and of
AutoAWQ ("gemm"). It knows no kernel: that is `quantized_layers`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from chatcli.errors import ModelError
from chatcli.models.weights import read_header
from chatcli.runtime.packing import GROUP, pack_codes
from chatcli.runtime.quantized_layers import Int4Linear, Int8Linear, QuantizedLinear

_METHOD = "chatcli-files"
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each nibble of a word holds, the lowest first."""
_TYPES = {"I32": torch.int32, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def taken_over(said: dict[str, Any]) -> dict[str, Any]:
    """The `quantization_config` by which transformers leaves the files to this module; any other as it was."""
    method = str(said.get("quant_method", "")).lower()
    return {**said, "quant_method": _METHOD, "format": method} if method in ("gptq", "awq") else said


@register_quantization_config(_METHOD)
class FilesConfig(QuantizationConfigMixin):
    """What config.json says of the packing.

    Raises:
        ModelError: of this kind no layout is known.
    """

    def __init__(self, **said: Any) -> None:
        self.quant_method: Any = _METHOD
        self.format = str(said["format"])
        self.bits = int(said.get("bits") or said.get("w_bit") or 4)
        self.zeros_from = 1 if self.format == "gptq" and said.get("checkpoint_format", "gptq") == "gptq" else 0
        layout = str(said.get("version") or "gemm").lower() if self.format == "awq" else "gemm"
        if self.bits not in ((4, 8) if self.format == "gptq" else (4,)) or layout != "gemm":
            raise ModelError(
                f"Weights packed by {self.format.upper()} with {self.bits} bits ({layout}) are not read here: use the "
                "original checkpoint, with --quant int4 if it is too large."
            )


@register_quantizer(_METHOD)
class _FilesQuantizer(HfQuantizer):
    """Lets the packed tensors be read as they are, then makes our layers of them, one by one."""

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **kwargs: Any) -> None:
        for path, tensors in _packed_layers(checkpoint_files or ()).items():
            layer = dict(model.named_modules()).get(path)
            if not isinstance(layer, nn.Linear):
                raise ModelError(
                    f"The layer {path} is packed by {_title(self.quantization_config)}, and the model has no such "
                    "linear layer (experts are joined): use the original checkpoint, with --quant int4."
                )
            model.set_submodule(path, Packed(layer, tensors))

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> None:
        config: Any = self.quantization_config
        for path, module in list(model.named_modules()):
            if isinstance(module, Packed):
                model.set_submodule(path, module.unpacked(config))

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def _title(config: Any) -> str:
    return str(config.format).upper()


def _packed_layers(files: Any) -> dict[str, dict[str, Tensor]]:
    """By a layer's path: its tensors, without data. `.bin` files tell nothing, and so lack their layers' weights."""
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for file in files:
        if not str(file).endswith(".safetensors"):
            raise ModelError("Packed weights are read from safetensors only: use a checkpoint that has them.")
        for name, tensor in read_header(Path(file)).items():
            layer, _, part = name.rpartition(".")
            if part in ("qweight", "qzeros", "scales", "g_idx"):
                found[layer][part] = torch.empty(tensor.shape, dtype=_TYPES[tensor.dtype], device="meta")
    return found


class Packed(nn.Module):
    """The tensors of one packed layer as the files hold them."""

    qweight: Tensor
    qzeros: Tensor
    scales: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Linear, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.shape, self.dtype = layer.weight.shape, layer.weight.dtype
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        self.register_parameter("bias", layer.bias)

    def unpacked(self, config: FilesConfig) -> QuantizedLinear:
        """Our layer with the same weights."""
        unpack = _awq if config.format == "awq" else _gptq
        codes, zeros = unpack(self.qweight, self.qzeros, config.bits)
        zeros = zeros + config.zeros_from & 2**config.bits - 1
        rows, columns = self.shape
        group = columns // len(zeros)
        index = getattr(self, "g_idx", torch.arange(columns, device=codes.device) // group).long()
        order = index.argsort(stable=True) if bool((index[1:] < index[:-1]).any()) else None
        kind = Int4Linear if config.bits == 4 and group % GROUP == 0 else Int8Linear
        with torch.device("meta"):
            layer = kind(columns, rows, self.bias is not None, dtype=self.dtype)
        layer.register_parameter("bias", self.bias)
        scales = self.scales.float().t()
        if isinstance(layer, Int4Linear):
            codes = codes.t() if order is None else codes.t()[:, order]
            repeated = (each.repeat_interleave(group // GROUP, 1) for each in (scales, (8 - zeros.t()) * scales))
            layer.hold((pack_codes(codes), *(each.bfloat16() for each in repeated)), order)
        else:
            layer.take(((codes.t() - zeros.t()[:, index]) * scales[:, index]).to(self.dtype))
        return layer


def _gptq(weight: Tensor, zeros: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes (in, out) of words along the inputs, and zeros (groups, out) of words along the outputs."""
    return _words(weight.t(), bits).t(), _words(zeros, bits)


def _awq(weight: Tensor, zeros: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The same where words lie along the outputs, their columns interleaved."""
    back = torch.tensor(_AWQ_ORDER, device=weight.device).argsort()
    both = (_words(each, bits).unflatten(-1, (-1, 8))[..., back].flatten(-2) for each in (weight, zeros))
    return next(both), next(both)


def _words(words: Tensor, bits: int) -> Tensor:
    """The numbers of `bits` bits in int32 words, the lowest bits first: (..., n) to (..., n * 32 / bits), int16."""
    shifts = torch.arange(0, 32, bits, device=words.device)
    numbers: Tensor = ((words[..., None] >> shifts) & (2**bits - 1)).to(torch.int16)
    return numbers.flatten(-2)
