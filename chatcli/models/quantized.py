"""Checkpoints whose files hold the weights quantised already: in which format, and which package reads it.

Told from config.json alone, before anything heavy is imported; it knows whether a package is installed, not whether
it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from chatcli.errors import ModelError
from chatcli.models.checkpoint import Checkpoint, text_config


@dataclass(frozen=True, slots=True)
class Format:
    """One way of quantising: its name for people, the module that reads it, and what to give to pip.

    No module means that transformers or chatcli reads it.
    """

    title: str
    module: str = ""
    package: str = ""


FORMATS: Mapping[str, Format] = {
    "gptq": Format("GPTQ"),
    "awq": Format("AWQ"),
    "fp8": Format("FP8"),
    "mxfp8": Format("MXFP8"),
    "mxfp4": Format("MXFP4"),
    "bitnet": Format("BitNet"),
    "bitsandbytes": Format("bitsandbytes", "bitsandbytes", "chatcli[bitsandbytes]"),
    "compressed-tensors": Format("compressed-tensors", "compressed_tensors", "chatcli[compressed-tensors]"),
    "torchao": Format("torchao", "torchao", "chatcli[torchao]"),
    "auto-round": Format("AutoRound", "auto_round", "auto-round"),
    "aqlm": Format("AQLM", "aqlm", "aqlm"),
    "fbgemm_fp8": Format("FBGEMM FP8", "fbgemm_gpu", "fbgemm-gpu"),
    "fp_quant": Format("FP-Quant", "fp_quant", "fp_quant"),
    "hqq": Format("HQQ", "hqq", "hqq"),
    "quanto": Format("Quanto", "optimum", "optimum-quanto"),
    "quark": Format("Quark", "quark", "amd-quark"),
    "vptq": Format("VPTQ", "vptq", "vptq"),
}
"""By the `quant_method` in config.json."""


def quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json says of weights that are quantised in the files; empty where they are not."""
    for part in (config, text_config(config)):
        for key in ("quantization_config", "compression_config"):
            found = part.get(key)
            if isinstance(found, Mapping):
                return found
    return {}


def quant_method(config: Mapping[str, Any]) -> str:
    """The format's name in config.json; empty where the weights are not quantised. Old bitsandbytes files tell none."""
    found = quantization_config(config)
    return str(found.get("quant_method") or "bitsandbytes").lower() if found else ""


def require_readable(checkpoint: Checkpoint) -> None:
    """Pass over a checkpoint that is not quantised, or in a format that can be read here.

    Raises:
        ModelError: the format is unknown, or its package is not installed.
    """
    method = quant_method(checkpoint.config)
    if not method:
        return
    form = FORMATS.get(method)
    if not form:
        raise ModelError(
            f"{checkpoint.name} is quantised in the format {method!r}, which nothing here reads: use the original "
            "checkpoint, with --quant int4 if it is too large."
        )
    if form.module and not find_spec(form.module):
        raise ModelError(
            f"{checkpoint.name} is quantised in the format {form.title}, whose package is not installed: "
            f'pip install "{form.package}".'
        )
