"""Adapters of PEFT, put on a loaded model: LoRA and its kin.

They are merged into plain weights, so that they cost nothing in decoding, and stay beside quantised ones. The
arithmetic is PEFT's. It knows no checkpoint's own weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from chatcli.errors import BrokenCheckpoint, ChatcliError, ModelError
from chatcli.models.checkpoint import Checkpoint, LoraFolder
from chatcli.models.lora import base_of
from chatcli.models.naming import without_loras
from chatcli.models.weights import read_header

_UNFIT = ("size mismatch", "not found in the base model", "No modules were targeted")
"""Parts of what PEFT says where an adapter is for another model."""
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def put_on(model: Any, checkpoint: Checkpoint) -> Any:
    """`model` with the adapters of its `checkpoint`, in their order; it keeps its class.

    Raises:
        ModelError: the package peft is missing, or an adapter is not for this model.
        BrokenCheckpoint: an adapter's files are damaged.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError('LoRA adapters need the package peft: pip install "chatcli[lora]".') from error
    merged = _is_plain(model)
    for number, lora in enumerate(checkpoint.loras):
        with _explained(lora, checkpoint.name):
            config = peft.PeftConfig.from_pretrained(str(lora.folder))
            if config.is_prompt_learning:
                raise ModelError(f"{lora.name} is a learned prompt ({config.peft_type.value}), which is not supported.")
            wrapped = peft.PeftModel.from_pretrained(
                model,
                str(lora.folder),
                adapter_name=f"put_on_{number}",
                config=config,
                torch_device=str(model.device),
                autocast_adapter_dtype=merged,
            )
            _require_places(peft, wrapped, f"put_on_{number}", lora, checkpoint.name)
            _scale(wrapped, f"put_on_{number}", lora)
            model = wrapped.merge_and_unload() if merged else wrapped.get_base_model()
    if not merged:
        _switch_on(model, [f"put_on_{number}" for number in range(len(checkpoint.loras))])
    return model


def _is_plain(model: Any) -> bool:
    """Whether all weights are numbers that a change can be added to."""
    return all(type(weight.data) is torch.Tensor and weight.dtype in _PLAIN for weight in model.parameters())


def _require_places(peft: Any, model: Any, name: str, lora: LoraFolder, base: str) -> None:
    """Refuse an adapter with weights for layers that the model does not have, which PEFT passes over in silence."""
    path = lora.folder / "adapter_model.safetensors"
    if path.is_file():
        there = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        if any(each not in there for each in read_header(path) if ".layers." in each):
            raise _unfit(lora, base)


def _scale(model: Any, name: str, lora: LoraFolder) -> None:
    if lora.scale == 1:
        return
    from peft.tuners.lora import LoraLayer

    scaled = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if not scaled:
        kind = model.peft_config[name].peft_type.value
        raise ModelError(
            f"{lora.name} is an adapter of the kind {kind}, which has no scale: leave out ={lora.scale:g}."
        )
    for module in scaled:
        module.set_scale(name, lora.scale)


def _switch_on(model: Any, names: list[str]) -> None:
    """Let all of these adapters count, where each put on turned the one before it off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.set_adapter(names, inference_mode=True)


@contextmanager
def _explained(lora: LoraFolder, model: str) -> Generator[None]:
    """Say in a sentence what PEFT raises, and what it only warns of: weights of the adapter with no place."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield
    except ChatcliError:
        raise
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, AttributeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        if any(part in text for part in _UNFIT):
            raise _unfit(lora, model) from error
        raise BrokenCheckpoint(
            f"The adapter {lora.name} cannot be put on ({text[:200]}; {type(error).__name__}): get it again."
        ) from error
    if any("missing adapter keys" in str(each.message) for each in said):
        raise _unfit(lora, model)


def _unfit(lora: LoraFolder, model: str) -> ModelError:
    made_for = base_of(lora.folder)
    for_that = f", but for {made_for}" if made_for else ""
    base, _ = without_loras(model)
    return ModelError(f"The adapter {lora.name} is not made for {base}{for_that}.")
