"""The precisions a model can be run in on a device, each with its sizes.

It knows the model by its numbers and what a person wants of it; it does not choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatcli.load_request import LoadRequest, Quantization
from chatcli.models.checkpoint import context_length
from chatcli.models.plan.talk import cache_bytes, kv_bytes_per_token, work_bytes
from chatcli.models.plan.values import Device, Option
from chatcli.models.plan.weighing import BYTES, Weighed, head_packing, unpacks
from chatcli.models.quantized import quant_method

TALK = 4096
"""Tokens of talk that must have room where nobody says how many."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be placed, and what a person wants of it."""

    model: Weighed
    request: LoadRequest

    @property
    def config(self) -> Mapping[str, Any]:
        """What its config.json says."""
        return self.model.config

    @property
    def stored(self) -> str:
        """The floating type of most of its files, by torch's name."""
        return self.model.stored

    @property
    def context(self) -> int:
        """Tokens of talk that get room: as many as are wanted, and the model can read."""
        longest = context_length(self.config)
        wanted = self.request.context or TALK
        return min(wanted, longest) if longest else wanted

    def option(self, device: Device, dtype: str, quantization: Quantization = "none") -> Option:
        """What it takes in one precision on a device."""
        unpack, element = unpacks(self.config, device), BYTES[dtype]
        head = head_packing(quantization, device.kind)
        return Option(
            dtype,
            quantization,
            self.model.bytes(dtype, quantization, head=head, unpack=unpack),
            kv_bytes_per_token(self.config, element),
            self.context,
            cache_bytes(self.config, self.context, element),
            work_bytes(self.config, self.context, element, device.kind)
            + self.model.unpacked_for_a_moment(quantization, dtype),
            self.model.largest(dtype, quantization, head=head, unpack=unpack),
            "" if unpack else quant_method(self.config),
        )

    def dtypes(self, device: Device) -> tuple[str, ...]:
        """What its floating weights may be on a device, the best first."""
        if self.request.dtype:
            return (self.request.dtype,)
        if device.kind != "cpu":
            return ("float16" if self.stored == "float16" or not device.bf16 else "bfloat16",)
        if self.stored == "float32" and self.request.fit == "strict":
            return ("float32",)
        if self.stored == "float32" or not device.bf16:
            return ("float32", "bfloat16")
        return ("bfloat16",)

    def quantizations(self, kind: str) -> tuple[Quantization, ...]:
        """What the runtime may make of its weights on a kind of device, the least loss first."""
        if self.request.quantization:
            return (self.request.quantization,)
        if self.request.fit == "strict" or kind == "mps" or quant_method(self.config):
            return ("none",)
        return ("none", "int8", "int4")

    def options(self, device: Device, quantization: Quantization) -> tuple[Option, ...]:
        """In a packing, or in each floating type that its weights may have there."""
        if quantization not in self.quantizations(device.kind):
            return ()
        if quantization != "none" and not self.request.dtype:
            computed = "float32" if device.kind == "cpu" and not device.bf16 else self.dtypes(device)[-1]
            return (self.option(device, computed, quantization),)
        return tuple(self.option(device, dtype, quantization) for dtype in self.dtypes(device))

    @property
    def may_be_moved(self) -> bool:
        """Whether parts of it may wait elsewhere than where they are computed: packed weights cannot."""
        return (
            self.request.fit == "auto" and self.request.quantization in (None, "none") and not quant_method(self.config)
        )
