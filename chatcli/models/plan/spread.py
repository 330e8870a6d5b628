"""How much of a model's weights each of several places may hold, as limits for accelerate's device map.

accelerate places whole layers in the order of the places and keeps room for the largest one on the first GPU and on
the CPU, so one layer is counted as lost on each. Every device keeps room for its cache and a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatcli.models.plan.values import MARGIN, Device, Option

Memory = dict[int | str, int]


def over(option: Option, gpus: Sequence[Device]) -> Memory | None:
    """Limits by GPU, where several hold the model together; each keeps the cache of its own layers."""
    if len(gpus) < 2 or gpus[0].kind not in ("cuda", "xpu"):
        return None
    kept = option.weights_bytes + option.cache_bytes
    share = option.weights_bytes / max(kept, 1)
    room = {d.index: int((d.free_bytes / MARGIN - option.work_bytes) * share) for d in gpus}
    return _enough({place: size for place, size in room.items() if size > option.layer_bytes}, option)


def over_main_memory(option: Option, gpus: Sequence[Device], cpus: Sequence[Device]) -> Memory | None:
    """Limits by GPU and for the CPU; what waits in main memory is computed on a GPU, which keeps its cache, too."""
    memory = _on(gpus, option)
    if not memory:
        return None
    memory["cpu"] = sum(int(d.free_bytes / MARGIN) for d in cpus)
    return _enough(memory, option)


def over_disk(option: Option, computing: Sequence[Device], cpus: Sequence[Device], limit: int | None) -> Memory | None:
    """Limits with as much on the disk as is needed, at most `limit` bytes; the largest layer must fit in memory."""
    memory = _on(computing, option)
    if not memory:
        return None
    if computing[0].kind != "cpu":
        memory["cpu"] = sum(int(d.free_bytes / MARGIN) for d in cpus)
    memory["disk"] = max(option.weights_bytes - _held(memory, option), 0)
    return memory if limit is None or memory["disk"] <= limit else None


def _on(computing: Sequence[Device], option: Option) -> Memory:
    """Room for weights on each device that computes: it holds the whole cache, since the split is not known yet."""
    beside = option.cache_bytes + option.work_bytes
    room: Memory = {
        d.index if d.kind in ("cuda", "xpu") else "cpu": int(d.free_bytes / MARGIN) - beside for d in computing
    }
    return {place: size for place, size in room.items() if size > option.layer_bytes}


def _held(memory: Memory, option: Option) -> int:
    return sum(max(size - option.layer_bytes, 0) for size in memory.values())


def _enough(memory: Memory, option: Option) -> Memory | None:
    return memory if memory and _held(memory, option) >= option.weights_bytes else None
