"""Quantise a checkpoint's weights one by one on their way to the device, so that it never holds the whole of them.

transformers has a door for it: a quantizer says which parameters it wants and gets each one as soon as it is read.
Linear layers and experts are packed; embeddings, routers and what a family keeps in float32 stay as they are. The
output head, and the embedding that is one, are packed on a CPU alone. How weights are packed, `quantized_layers` knows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.import_utils import is_kernels_available
from transformers.utils.quantization_config import QuantizationConfigMixin

from chatcli.errors import UsageError
from chatcli.load_request import Quantization
from chatcli.models.plan import LoadPlan
from chatcli.models.plan.weighing import head_packing, packs_table
from chatcli.runtime.packing import GROUP
from chatcli.runtime.quantized_files import FilesConfig, taken_over
from chatcli.runtime.quantized_layers import (
    LINEARS,
    Int8Embedding,
    Int8Linear,
    QuantizedExperts,
    QuantizedLinear,
    has_kernel,
)

_METHOD = "chatcli"
_WITH_KERNELS = ("fp8", "mxfp8", "mxfp4")


def quantized(plan: LoadPlan) -> dict[str, Any]:
    """Arguments of `from_pretrained` that make it quantise the weights as planned; none for "none".

    Raises:
        UsageError: the device does not compute in the precision.
    """
    if plan.quantization == "fp8" and not has_kernel("fp8", plan.device):
        raise UsageError(f"{plan.device} does not compute fp8: --quant int8 takes as little memory and runs anywhere.")
    return {} if plan.quantization == "none" else {"quantization_config": _Config(plan)}


def readable(said: dict[str, Any], device: str) -> dict[str, Any]:
    """What config.json says of quantised files, as it can be carried out here.

    Kernels for FP8 and MXFP4 come with the package `kernels`; without it the weights are unpacked as they load.
    compressed-tensors would unpack its own before the first answer.
    """
    method = said.get("quant_method")
    if method == "compressed-tensors" or (method in _WITH_KERNELS and (device == "cpu" or not is_kernels_available())):
        return {**said, "dequantize": True}
    return taken_over(said)


def precision(model: Any) -> str:
    """How people call the weights' type: "int4", "gptq int4", "bfloat16"."""
    config = getattr(model.config, "quantization_config", None)
    if isinstance(config, _Config):
        return config.quantization
    if isinstance(config, FilesConfig):
        return f"{config.format} int{config.bits}"
    method = getattr(config, "quant_method", None)
    return str(getattr(method, "value", method)) if method else str(model.dtype).removeprefix("torch.")


def told(model: Any, method: str) -> str:
    """What was done to a model's weights, in a sentence; empty where they are as in the files.

    `method` is how the files hold them quantised, if they do.
    """
    config = getattr(model.config, "quantization_config", None)
    now = _size(model_bytes(model))
    if isinstance(config, _Config):
        return f"Weights in {config.quantization}: {now} instead of {_size(config.full_bytes)}."
    if method and config is None:
        missing = method in _WITH_KERNELS and model.device.type != "cpu"
        hint = ' (pip install "chatcli[kernels]" keeps them packed)' if missing else ""
        return f"Weights unpacked from {method} to {precision(model)}: {now}{hint}."
    return ""


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def model_bytes(model: Any) -> int:
    """Bytes of all parameters, each counted once."""
    return sum(each.numel() * each.element_size() for each in model.parameters())


class _Config(QuantizationConfigMixin):
    """What is to be done; afterwards also what the weights would have taken otherwise."""

    def __init__(self, plan: LoadPlan) -> None:
        self.quant_method: Any = _METHOD
        self.quantization = plan.quantization
        self.head = head_packing(plan.quantization, plan.device)
        self.full_bytes = 0


@register_quantizer(_METHOD)
class _Quantizer(HfQuantizer):
    """Puts our layers where linear ones are, and packs what they and the experts are given."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        config: Any = self.quantization_config
        config.full_bytes = model_bytes(model)
        kept = self.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
        head, table = model.get_output_embeddings(), model.get_input_embeddings()
        tied = bool(model.config.get_text_config().tie_word_embeddings)
        if tied and config.head == "int8" and type(head) is nn.Linear and _is_table(model.config, table):
            names = {module: name for name, module in model.named_modules()}
            with torch.device("meta"):
                packed_head = Int8Linear(
                    head.in_features, head.out_features, head.bias is not None, dtype=head.weight.dtype
                )
                model.set_submodule(names[head], packed_head)
                model.set_submodule(names[table], Int8Embedding(packed_head))
        head = None if tied else head
        for name, module in list(model.named_modules()):
            if type(module) is not nn.Linear:
                continue
            packed = _may_be_packed(name, module, kept, config.quantization)
            quantization: Quantization = config.quantization if packed else "none"
            quantization = config.head if module is head else quantization
            if quantization != "none":
                with torch.device("meta"):
                    layer = LINEARS[quantization](
                        module.in_features, module.out_features, module.bias is not None, dtype=module.weight.dtype
                    )
                model.set_submodule(name, layer)

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        path, _, name = param_name.rpartition(".")
        module = model.get_submodule(path)
        if isinstance(module, QuantizedLinear | Int8Embedding):
            return name == "weight"
        return _is_of_experts(module, name) and _in_groups(getattr(module, name), self.quantization)

    def param_element_size(self, model: Any, param_name: str, param: torch.Tensor) -> float:
        """Bytes of a weight, by which accelerate's device map reckons."""
        if not self.param_needs_quantization(model, param_name):
            return float(param.element_size())
        layer = model.get_submodule(param_name.rpartition(".")[0])
        return 0.5 + 4 / GROUP if getattr(layer, "quantization", self.quantization) == "int4" else 1.0

    def get_quantize_ops(self) -> ConversionOps:
        return _Pack(self)

    @property
    def quantization(self) -> Quantization:
        config: Any = self.quantization_config
        return config.quantization  # type: ignore[no-any-return]

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


class _Pack(ConversionOps):
    """Takes the weights just read, one or the parts of a fused one, and gives back what is not to be packed."""

    def __init__(self, quantizer: _Quantizer) -> None:
        self._quantizer = quantizer

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """See `ConversionOps`."""
        left: dict[str, Any] = {}
        for full_name, value in input_dict.items():
            weight = value[0] if isinstance(value, list) else value
            if self._quantizer.param_needs_quantization(kwargs["model"], full_name):
                self._take(kwargs["model"], full_name, weight)
                kwargs["missing_keys"].discard(full_name)
            else:
                left[full_name] = weight
        return left

    def _take(self, model: Any, full_name: str, weight: torch.Tensor) -> None:
        path, _, name = full_name.rpartition(".")
        module = model.get_submodule(path)
        if weight.shape != getattr(module, name).shape:
            raise ValueError(f"{full_name} has the shape {tuple(weight.shape)}")
        if isinstance(module, QuantizedLinear | Int8Embedding):
            module.take(weight)
            packed: nn.Module = module
        else:
            packed = QuantizedExperts(weight, self._quantizer.quantization)
            delattr(module, name)
            setattr(module, name, packed)
        for each in packed.parameters(recurse=False):
            each._is_hf_initialized = True  # type: ignore[attr-defined]


def _may_be_packed(name: str, layer: nn.Linear, kept: list[str], quantization: Quantization) -> bool:
    # A router picks experts: a wrong pick costs more than its few bytes.
    apart = name.rpartition(".")[2] in ("gate", "router", "shared_expert_gate")
    return not apart and _in_groups(layer.weight, quantization) and not any(_names(each, name) for each in kept)


def _is_table(config: Any, embedding: Any) -> bool:
    return type(embedding) is nn.Embedding and packs_table(config.to_dict())


def _names(kept: str, name: str) -> bool:
    return f".{name}.".find(f".{kept}.") >= 0


def _in_groups(weight: torch.Tensor, quantization: Quantization) -> bool:
    return quantization != "int4" or weight.shape[-1] % GROUP == 0


def _is_of_experts(module: nn.Module, name: str) -> bool:
    """Whether a parameter holds a projection of all experts, in a class that transformers marked as such."""
    return hasattr(module, "is_transposed") and getattr(getattr(module, name, None), "ndim", 0) == 3
