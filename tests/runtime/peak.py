"""How much memory loading takes at most, in a process of its own; prints JSON, in bytes.

Usage: peak.py WARM-UP FOLDER DTYPE. `mapped` is the growth of all that is resident, weights touched; `private`
leaves out the pages of files, which the kernel takes back when it wants to. `modules` are those that the second
model of a family brought in.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import torch

import chatcli.runtime  # noqa: F401  before torch
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import weights
from chatcli.runtime.load import load_model


def opened(folder: str, dtype: str) -> torch.nn.Module:
    checkpoint = open_checkpoint(Path(folder))
    plan = LoadPlan(dtype, "cpu", "single", 0, 0)
    model: torch.nn.Module = load_model(checkpoint, weights(checkpoint), plan, lambda progress: None)
    for weight in model.parameters():
        weight.view(-1).view(torch.uint8)[::4096].sum()
    return model


def resident(*names: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(status[name].split()[0]) << 10 for name in names)


class Watch(threading.Thread):
    """The most private memory seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self.ended.wait(0.001):
            self.most = max(self.most, resident("RssAnon", "RssShmem"))


def main(warm_up: str, folder: str, dtype: str) -> None:
    first = opened(warm_up, dtype)
    before_modules = set(sys.modules)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    mapped, private = resident("VmRSS"), resident("RssAnon", "RssShmem")
    watch = Watch()
    watch.start()
    model = opened(folder, dtype)
    watch.ended.set()
    own = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    print(
        json.dumps(
            {
                "own": own,
                "mapped": resident("VmHWM") - mapped,
                "private": watch.most - private,
                "modules": sorted(set(sys.modules) - before_modules),
                "one class": type(first) is type(model),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
