"""Where a model goes and in which precision: decided from numbers, before anything is loaded.

A pure function of config.json, the tensors' headers and the free memory. It asks no machine and loads
nothing: the runtime measures the devices and carries the plan out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chatcli.errors import OutOfMemory
from chatcli.load_request import NOTHING_SAID, LoadRequest, Quantization
from chatcli.models.chatglm import growth
from chatcli.models.checkpoint import context_length, text_config
from chatcli.models.weights import Tensor

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_RESERVE = 1.1
"""Activations and the allocator's own losses, as a factor on the weights."""
_TALK = 4096
"""Tokens of talk that must have room beside the weights."""
_ORDER = ("cuda", "xpu", "mps", "cpu")


@dataclass(frozen=True, slots=True)
class Device:
    """One place to compute: its free memory in bytes, and whether it computes bfloat16 at speed."""

    kind: Literal["cuda", "xpu", "mps", "cpu"]
    index: int
    free_bytes: int
    bf16: bool

    @property
    def name(self) -> str:
        """As torch writes it."""
        return f"{self.kind}:{self.index}" if self.kind in ("cuda", "xpu") else self.kind


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to do. `dtype` and `device` are torch's names; sizes are in bytes.

    "auto" spreads layers over the places in `max_memory` (a GPU's number, or "cpu") in their order;
    `device` is then the first of them. `notes` are sentences for people.
    """

    dtype: str
    device: str
    placement: Literal["single", "auto"]
    weights_bytes: int
    kv_bytes_per_token: int
    max_memory: Mapping[int | str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantization: Quantization = "none"


def plan(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    devices: Sequence[Device],
    request: LoadRequest = NOTHING_SAID,
    *,
    stored_bytes: int = 0,
) -> LoadPlan:
    """The first of CUDA, XPU, MPS and CPU that holds the model and 4096 tokens of talk.

    A model too large for one GPU is spread over all of them, then over the CPU. `stored_bytes` is the
    size of `.bin` files, whose tensors are unknown.

    Raises:
        OutOfMemory: it fits nowhere; with the numbers and what to do.
    """
    ordered = sorted(devices, key=lambda d: (_ORDER.index(d.kind), d.index))
    closest: LoadPlan | None = None
    for kind in dict.fromkeys(d.kind for d in ordered):
        group = [d for d in ordered if d.kind == kind]
        first = max(group, key=lambda d: d.free_bytes)
        candidate = _on(first, config, tensors, stored_bytes, request)
        closest = candidate
        if _need(candidate, config) <= first.free_bytes:
            return candidate
        if kind in ("cuda", "xpu"):
            spread = _spread(candidate, group, [d for d in ordered if d.kind == "cpu"], config)
            if spread:
                return spread
    if closest is None:
        raise OutOfMemory("There is no device to compute on, not even a CPU: the installation of torch is broken.")
    raise OutOfMemory(
        f"The model needs {_gigabytes(_need(closest, config))} of memory, but {_most(ordered)}: "
        "close other programs or choose a smaller model."
    )


def _on(
    device: Device, config: Mapping[str, Any], tensors: Mapping[str, Tensor], stored_bytes: int, request: LoadRequest
) -> LoadPlan:
    """The plan for one device alone, whether the model fits there or not."""
    stored = _stored(tensors) or _declared(config)
    dtype, notes = (request.dtype, ()) if request.dtype else _dtype(device, stored)
    size = sum(_size(t, dtype) for t in tensors.values()) or _cast(stored_bytes, stored, dtype)
    if config.get("model_type") == "chatglm":
        size += growth(config, _BYTES[dtype])
    per_token = kv_bytes_per_token(config, _BYTES[dtype])
    if not request.dtype and dtype == "bfloat16" and device.kind == "cpu" and stored == "F32":
        full = LoadPlan("float32", device.name, "single", size * 2, per_token * 2)
        if _need(full, config) <= device.free_bytes:
            return full
    return LoadPlan(dtype, device.name, "single", size, per_token, {}, notes, request.quantization or "none")


def _stored(tensors: Mapping[str, Tensor]) -> str:
    """The floating type that most bytes are stored in."""
    count: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in _FLOATS:
            count[tensor.dtype] += tensor.bytes
    return count.most_common(1)[0][0] if count else ""


def _declared(config: Mapping[str, Any]) -> str:
    """The same from config.json, for `.bin` files, whose tensors are unknown; empty where it does not say."""
    for part in (config, text_config(config)):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in _NAMES:
                return _NAMES[part[key]]
    return ""


def _dtype(device: Device, stored: str) -> tuple[str, tuple[str, ...]]:
    if device.kind == "cpu":
        return ("bfloat16" if device.bf16 else "float32"), ()
    if stored == "F16" or not device.bf16:
        note = f"{device.name} does not compute bfloat16 at speed, so the model runs in float16."
        return "float16", (note,) if stored == "BF16" else ()
    return "bfloat16", ()


def _cast(size: int, stored: str, dtype: str) -> int:
    """Bytes after loading of files whose tensors are unknown."""
    return size * _BYTES[dtype] // (4 if stored == "F32" else 2) if stored else size


def _size(tensor: Tensor, dtype: str) -> int:
    """Bytes after loading: floating tensors are cast, quantised ones stay as they are."""
    return math.prod(tensor.shape) * _BYTES[dtype] if tensor.dtype in _FLOATS else tensor.bytes


def _need(plan: LoadPlan, config: Mapping[str, Any]) -> int:
    return int(plan.weights_bytes * _RESERVE) + _talk_bytes(plan, config)


def _talk_bytes(plan: LoadPlan, config: Mapping[str, Any]) -> int:
    return min(_TALK, context_length(config) or _TALK) * plan.kv_bytes_per_token


def _spread(
    single: LoadPlan, gpus: Sequence[Device], cpus: Sequence[Device], config: Mapping[str, Any]
) -> LoadPlan | None:
    """The same model over several places; None where they do not hold it together."""
    talk = _talk_bytes(single, config)
    # Each GPU keeps the cache of its own layers: reserve the whole on each, since the split is not known yet.
    room = {d.index: max(int(d.free_bytes / _RESERVE) - talk, 0) for d in gpus}
    memory: dict[int | str, int] = {index: free for index, free in room.items() if free}
    if not memory:
        return None
    notes = [f"The model does not fit on one GPU, so it is spread over {len(memory)}."] if len(memory) > 1 else []
    missing = single.weights_bytes - sum(memory.values())
    if missing > 0:
        memory["cpu"] = sum(int(d.free_bytes / _RESERVE) for d in cpus)
        if missing > memory["cpu"]:
            return None
        notes.append(f"About {_gigabytes(missing)} of the model stay in main memory, which makes answers slow.")
    start = f"{single.device.partition(':')[0]}:{next(iter(memory))}"
    return LoadPlan(
        single.dtype,
        start,
        "auto",
        single.weights_bytes,
        single.kv_bytes_per_token,
        memory,
        (*single.notes, *notes),
        single.quantization,
    )


def kv_bytes_per_token(config: Mapping[str, Any], element: int = 2) -> int:
    """What one token of talk costs in the cache; 0 where the configuration does not tell."""
    part = text_config(config)

    def first(*keys: str) -> int:
        found = (part.get(key) for key in keys)
        return next((v for v in found if isinstance(v, int) and not isinstance(v, bool) and v > 0), 0)

    layers = first("num_hidden_layers", "num_layers", "n_layer", "n_layers")
    heads = first("num_attention_heads", "n_head", "n_heads")
    width = first("head_dim", "kv_channels") or first("hidden_size", "n_embd", "d_model") // max(heads, 1)
    groups = first("num_key_value_heads", "num_kv_heads", "n_head_kv")
    if part.get("multi_query_attention"):  # ChatGLM2 and its successors
        groups = first("multi_query_group_num") or 1
    elif part.get("multi_query") and not groups:  # the first Falcons
        groups = 1
    kept = 3 if part.get("model_type") == "yuan" else 2  # its inputs, beside keys and values
    return kept * layers * (groups or heads) * width * element


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _most(devices: Sequence[Device]) -> str:
    free = [f"{d.name} has {_gigabytes(d.free_bytes)} free" for d in devices]
    return free[0] if len(free) == 1 else ", ".join(free[:-1]) + " and " + free[-1]
