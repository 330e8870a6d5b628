"""What a plan is made of and what it is: devices, and where a model goes in which precision.

Values only; sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from chatcli.load_request import Quantization

MARGIN = 1.1
"""An estimate may be a tenth too low; what is estimated times this must fit into what is free."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place to compute: its free memory in bytes, whether it computes bfloat16 at speed, and packed numbers.

    `kernels` says that the package of that name is installed, with which GPUs compute files in FP8 and MXFP4.
    """

    kind: Literal["cuda", "xpu", "mps", "cpu"]
    index: int
    free_bytes: int
    bf16: bool
    kernels: bool = False

    @property
    def name(self) -> str:
        """As torch writes it."""
        return f"{self.kind}:{self.index}" if self.kind in ("cuda", "xpu") else self.kind


@dataclass(frozen=True, slots=True)
class Option:
    """A model in one precision on one kind of device, whether it fits there or not.

    `dtype` is torch's name of what is computed in; `packed` is how the files hold the weights, if they stay so.
    `cache_bytes` is what a talk of `context` tokens keeps, `work_bytes` what a forward pass needs for a moment;
    `layer_bytes` is the largest part that is placed as a whole.
    """

    dtype: str
    quantization: Quantization
    weights_bytes: int
    kv_bytes_per_token: int
    context: int
    cache_bytes: int
    work_bytes: int
    layer_bytes: int
    packed: str = ""

    @property
    def peak_bytes(self) -> int:
        """The most memory that is taken at a time, once the model is loaded."""
        return self.weights_bytes + self.cache_bytes + self.work_bytes

    @property
    def need_bytes(self) -> int:
        """What must be free before it is tried: the peak and a tenth."""
        return int(self.peak_bytes * MARGIN)

    @property
    def precision(self) -> str:
        """How people call it: "bfloat16", or "int4" or "gptq" where the weights are packed."""
        return self.packed or (self.dtype if self.quantization == "none" else self.quantization)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to do. `dtype` and `device` are torch's names; sizes are in bytes.

    "auto" spreads layers over the places in `max_memory` (a GPU's number, "cpu" or "disk") in their order, each with
    the most weights it may hold; `device` is then the first of them. `quantization` is what the runtime makes of the
    weights, "none" also where the files hold them `packed` already. `notes` are sentences for people about what was
    given up to make it fit, `reason` is one about why just this was chosen.
    """

    dtype: str
    device: str
    placement: Literal["single", "auto", "tensor"]
    weights_bytes: int
    kv_bytes_per_token: int
    max_memory: Mapping[int | str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantization: Quantization = "none"
    context: int = 0
    cache_bytes: int = 0
    work_bytes: int = 0
    packed: str = ""
    reason: str = ""

    @property
    def peak_bytes(self) -> int:
        """The most memory that is taken at a time over all places, once the model is loaded."""
        return self.weights_bytes + self.cache_bytes + self.work_bytes

    @property
    def precision(self) -> str:
        """How people call it: "bfloat16", or "int4" or "gptq" where the weights are packed."""
        return self.packed or (self.dtype if self.quantization == "none" else self.quantization)


def amount(size: int) -> str:
    """A size in bytes for people."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
