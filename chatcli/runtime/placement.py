"""Where a model's weights go: one device, a slice for each process, or a map over GPUs, main memory and the disk.

It knows plans and the arguments that transformers takes for them, and what a placed model needs of its caller;
it decides nothing: that is `models.plan`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from transformers.distributed.configuration_utils import DistributedConfig

from chatcli.generation import Progress
from chatcli.leaving import before_leaving
from chatcli.models.plan import LoadPlan

_PREFIX = "chatcli-offload-"
_FROM_DISK = (
    "{share} of the model stays on the disk and is read from there for every token: answers are very slow. "
    "A smaller model or --quant int4 would be faster."
)


@dataclass(frozen=True, slots=True)
class Place:
    """`arguments` are those of `from_pretrained`; `folder` is for weights that accelerate writes back to the disk."""

    arguments: dict[str, Any]
    folder: TemporaryDirectory[str] | None = None

    def settle(self, model: Any, plan: LoadPlan, report: Callable[[Progress], None]) -> None:
        """Say what stays on the disk where the plan has not, and keep the folder as long as the model is there."""
        on_disk = _share_on_disk(model)
        if on_disk and not any("disk" in note for note in plan.notes):
            report(Progress("loading", note=_FROM_DISK.format(share=f"{on_disk:.0%}")))
        if self.folder and any(Path(self.folder.name).iterdir()):
            model.on_release = self.folder.cleanup
            before_leaving(self.folder.cleanup)


@contextmanager
def placed(plan: LoadPlan) -> Generator[Place]:
    """How `plan` is carried out; what a load that fails has written is removed."""
    if plan.placement == "tensor":
        yield Place({"distributed_config": DistributedConfig(tp_plan="auto")})
        return
    if plan.placement == "single":
        yield Place({"device_map": {"": plan.device}})
        return
    folder = _private_folder()
    limits = {place: size for place, size in plan.max_memory.items() if place != "disk"}  # the disk has none
    place = Place({"device_map": "auto", "max_memory": limits, "offload_folder": folder.name}, folder)
    kept = False
    try:
        yield place
        kept = any(Path(folder.name).iterdir())
    finally:
        if not kept:
            folder.cleanup()


def release(model: Any) -> None:
    """Free what `model`, which computes no more, holds elsewhere: a folder on the disk, slices in other processes."""
    on_release = getattr(model, "on_release", None)
    if on_release:
        on_release()


def input_device(model: Any) -> torch.device:
    """The device that token ids are fed to; an embedding that is not kept where it computes is on none."""
    embedding = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    for each in getattr(hook, "hooks", [hook]):
        device = getattr(each, "execution_device", None)
        if device is not None:
            return torch.device(device)
    found: torch.device = embedding.weight.device
    return found


def _share_on_disk(model: Any) -> float:
    """The share of the parameters that the device map leaves on the disk."""
    parts = [part for part, device in getattr(model, "hf_device_map", {}).items() if device == "disk"]
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    there = sum(
        size for name, size in sizes.items() if any(part in ("", name) or name.startswith(f"{part}.") for part in parts)
    )
    return float(there / max(sum(sizes.values()), 1))


def _private_folder() -> TemporaryDirectory[str]:
    """A new folder for this user alone, on a disk: /tmp is main memory on many systems, which is just what lacks.

    What a killed process left behind goes now.
    """
    parent = Path(tempfile.gettempdir())
    lasting = Path("/var/tmp")
    if "TMPDIR" not in os.environ and os.access(lasting, os.W_OK | os.X_OK):
        parent = lasting
    for left in parent.glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    return TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent, ignore_cleanup_errors=True)
