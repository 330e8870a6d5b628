"""The devices of this machine and what is free on them, as torch sees them.

It knows torch's back ends; it decides nothing: that is `models.plan`.
"""

from __future__ import annotations

import torch

from chatcli.models.machine import free_memory, has_kernels
from chatcli.models.plan import Device


def devices() -> tuple[Device, ...]:
    """Every usable device, in the order of preference: CUDA, XPU, MPS, and the CPU last."""
    memory = free_memory()
    found: list[Device] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            with torch.cuda.device(index):
                bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            found.append(Device("cuda", index, torch.cuda.mem_get_info(index)[0], bf16, has_kernels()))
    if torch.xpu.is_available():
        for index in range(torch.xpu.device_count()):
            free = torch.xpu.mem_get_info(index)[0]
            found.append(Device("xpu", index, free, torch.xpu.is_bf16_supported(), has_kernels()))
    if torch.backends.mps.is_available():
        # Its memory is the machine's; Metal lets a process have about three quarters of it.
        found.append(Device("mps", 0, memory * 3 // 4, bf16=True))
    found.append(Device("cpu", 0, memory, bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())))
    return tuple(found)


def free_bytes(device: torch.device) -> int:
    """Memory that is free now where a device computes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    return free_memory()


def taken() -> int:
    """Bytes of the GPUs' memory that this process holds."""
    if not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))


def memory_bandwidth(device: torch.device) -> float:
    """Bytes a second that a device's memory can give at most; 0 where it does not say.

    Twice the clock times the width of the bus: both edges of the clock carry data (CUDA C++ Best Practices
    Guide, 11.2.1). What a CPU's memory can do, nobody tells.
    """
    if device.type != "cuda":
        return 0.0
    said = torch.cuda.get_device_properties(device)
    kilohertz, bits = getattr(said, "memory_clock_rate", 0), getattr(said, "memory_bus_width", 0)
    return 2.0 * kilohertz * 1000 * bits / 8
