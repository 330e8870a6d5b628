"""Which devices may be used and how much of each: the machine's, less what a person keeps from it.

It knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chatcli.errors import OutOfMemory, UsageError
from chatcli.load_request import LoadRequest
from chatcli.models.plan.values import Device

_ORDER = ("cuda", "xpu", "mps", "cpu")


def usable(devices: Sequence[Device], request: LoadRequest) -> tuple[Device, ...]:
    """The devices that `request` leaves, the fastest kind first, each with what may be taken of it.

    The CPU stays beside a GPU that is named: what a GPU cannot hold may wait there.

    Raises:
        UsageError: a device is named that does not exist here.
        OutOfMemory: there is none at all.
    """
    found = sorted(devices, key=lambda d: (_ORDER.index(d.kind), d.index))
    if not found:
        raise OutOfMemory("There is no device to compute on, not even a CPU: the installation of torch is broken.")
    gpus = {d.index for d in found if d.kind in ("cuda", "xpu")}
    named = [place for place in request.max_memory if isinstance(place, int)]
    for number in (*request.devices, *named):
        if number not in gpus:
            raise UsageError(f"There is no GPU {number} on this machine: {_here(found)}.")
    if request.devices:
        found = [d for d in found if d.index in request.devices or d.kind not in ("cuda", "xpu")]
    return tuple(_bounded(d, request) for d in _named(found, request.device))


def _named(found: Sequence[Device], name: str) -> list[Device]:
    if not name or name == "auto":
        return list(found)
    kept = [d for d in found if name in (d.name, d.kind)]
    if not kept:
        raise UsageError(f"There is no {name} on this machine: {_here(found)}.")
    beside = [d for d in found if d.kind == "cpu"] if kept[0].kind in ("cuda", "xpu") else []
    return kept + beside


def _here(found: Sequence[Device]) -> str:
    names = [d.name for d in found]
    return f"it has {listed(names)}" if len(names) > 1 else f"it has {names[0]} only"


def listed(words: Sequence[str]) -> str:
    """As a sentence lists them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _bounded(device: Device, request: LoadRequest) -> Device:
    place: int | str = device.index if device.kind in ("cuda", "xpu") else "cpu"
    return replace(device, free_bytes=min(device.free_bytes, request.max_memory.get(place, device.free_bytes)))
