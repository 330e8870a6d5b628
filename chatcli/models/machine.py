"""The devices of this machine and what is free on them, found without torch, which takes seconds to import.

The same numbers as `runtime.devices` gives, for commands that load nothing. NVIDIA's GPUs are asked of nvidia-smi,
which comes with their driver; GPUs of AMD and Intel only torch knows, and so does `chatcli run`.
"""

from __future__ import annotations

import platform
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from chatcli.models.plan.values import Device

PROCESS_BYTES = 450_000_000
"""What a process takes of a device before it has a model: torch and transformers in main memory, a context on a GPU."""

_QUERY = "index,uuid,memory.free,compute_cap"
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Of version 2 and 1 of control groups: the bound, what is taken, and where to read how much of it is page cache."""
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})


def devices(variables: Mapping[str, str]) -> tuple[Device, ...]:
    """Every device that torch would use, as much as can be known without it, in the order of preference.

    `variables` may hide GPUs: CUDA_VISIBLE_DEVICES.
    """
    free = max(free_memory() - PROCESS_BYTES, 0)
    found: list[Device] = []
    if _torch_is_built_for("cuda"):
        found += visible(nvidia(_nvidia_smi()), variables.get("CUDA_VISIBLE_DEVICES"))
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found.append(Device("mps", 0, free * 3 // 4, bf16=True))
    return (*found, Device("cpu", 0, free, _cpu_bf16()))


def free_memory() -> int:
    """Bytes of main memory that a process can still take: the machine's, or what its container has left."""
    import psutil

    return min([int(psutil.virtual_memory().available), *container_memory()])


def container_memory(groups: Path = _CONTROL_GROUPS) -> list[int]:
    """What the control group of this process leaves it, if it is bounded; its page cache counts as free.

    Files and their meaning: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    for limit, used, statistics, cache in _CGROUP_FILES:
        try:
            bound, taken = (int((groups / each).read_text(encoding="ascii")) for each in (limit, used))
            lines = (groups / statistics).read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):  # no Linux, no such controller, or "max"
            continue
        cached = next((int(line.split()[1]) for line in lines if line.startswith(f"{cache} ")), 0)
        return [max(bound - taken + cached, 0)]
    return []


def has_kernels() -> bool:
    """Whether the package is there with which GPUs compute FP8 and MXFP4."""
    return find_spec("kernels") is not None


def _torch_is_built_for(kind: str) -> bool:
    """Whether the installed torch has a back end, told from the file in which it says so; True where it does not."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        said = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    except Exception:
        return True
    return kind not in said or bool(said[kind])


def _nvidia_smi() -> str:
    try:
        return subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def nvidia(table: str) -> list[tuple[str, Device]]:
    """Each GPU with its UUID, from what nvidia-smi prints: number, UUID, free MiB, compute capability.

    bfloat16 begins with compute capability 8.0.
    """
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            number, uuid, free, capability = int(cells[0]), cells[1], int(cells[2]), float(cells[3])
        except (ValueError, IndexError):  # a GPU in parts, or one that has fallen off its bus
            continue
        left = max(free * 2**20 - PROCESS_BYTES, 0)
        found.append((uuid, Device("cuda", number, left, bf16=capability >= 8, kernels=has_kernels())))
    return found


def visible(gpus: list[tuple[str, Device]], said: str | None) -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, numbered as CUDA does: in its order, up to the first it cannot mean.

    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    if said is None:
        return [device for _, device in gpus]
    kept: list[Device] = []
    for word in (each.strip() for each in said.split(",")):
        meant = [d for uuid, d in gpus if word == str(d.index) or (word.startswith("GPU-") and uuid.startswith(word))]
        if len(meant) != 1:
            break
        kept.append(replace(meant[0], index=len(kept)))
    return kept


def _cpu_bf16() -> bool:
    """Whether oneDNN multiplies bfloat16 here: with AVX-512, or on ARM with its bf16 extension."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    line = next((each for each in text.splitlines() if each.startswith(("flags", "Features"))), "")
    flags = set(line.split())
    return flags >= _AVX512 or "avx_ne_convert" in flags or "bf16" in flags
