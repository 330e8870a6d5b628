"""Model families that transformers does not know: their published files, run by classes of ours or its own.

A port is a file here that holds `PORT`; the row of its family in table.toml names it. `register` opens the
door of transformers to them: afterwards `AutoConfig`, `AutoTokenizer` and `AutoModelForCausalLM` load such a
folder with no code from it. This module knows no family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import register_checkpoint_conversion_mapping

from chatcli.adapters.table import ports


@dataclass(frozen=True, slots=True)
class Port:
    """One family under the `model_type` that its published config.json says.

    `config` translates the published keys into those of the class that computes; its `model_type` is the
    published one. `model` is the causal language model: a class of ours, or a subclass of a native one with a
    name of its own, for `weights` are the loader's renamings and conversions for that class name alone.
    `tokenizers` are the classes by the names that tokenizer_config.json may say; none where tokenizer.json or
    a native class serves. A `model_type` that several architectures share has `variants` in place of a `model`:
    its `config.from_dict` returns the `config` of one of them. So has a port of several model types.
    """

    config: type[PreTrainedConfig]
    model: type[PreTrainedModel] | None = None
    weights: Sequence[Any] = ()
    tokenizers: Sequence[type] = field(default=())
    variants: Sequence[Port] = ()


_registered: set[str] = set()


def register(model_type: str = "") -> None:
    """Make transformers know the port of one `model_type`, or every port; may be called again.

    A `model_type` without a port changes nothing: transformers then says what it knows of it.
    """
    for each, module in ports().items():
        if model_type in ("", each) and each not in _registered:
            _register(import_module(f"chatcli.runtime.ports.{module}").PORT)
            _registered.add(each)


def _register(port: Port) -> None:
    AutoConfig.register(port.config.model_type, port.config, exist_ok=True)
    for each in port.variants or (port,):
        if each.config.model_type != port.config.model_type:
            AutoConfig.register(each.config.model_type, each.config, exist_ok=True)
        if each.model:
            _register_model(each, each.model, port.tokenizers)


def _register_model(port: Port, model: type[PreTrainedModel], tokenizers: Sequence[type]) -> None:
    AutoModel.register(port.config, model, exist_ok=True)
    AutoModelForCausalLM.register(port.config, model, exist_ok=True)
    if port.weights:
        register_checkpoint_conversion_mapping(model.__name__, list(port.weights), overwrite=True)
    for tokenizer in tokenizers:
        AutoTokenizer.register(port.config, tokenizer, exist_ok=True)
