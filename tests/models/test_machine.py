"""The devices of a machine, told without torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatcli.models import machine
from chatcli.models.machine import PROCESS_BYTES, container_memory, nvidia, visible

SMI = """\
0, GPU-1a2b, 23028, 8.9
1, GPU-3c4d, 81000, 7.5
2, GPU-5e6f, [N/A], 9.0
"""


def test_the_same_devices_as_torch_sees() -> None:
    from chatcli.runtime.devices import devices

    told = machine.devices(os.environ)
    assert [(d.name, d.bf16) for d in told] == [(d.name, d.bf16) for d in devices()]
    assert told[-1].free_bytes == pytest.approx(devices()[-1].free_bytes, abs=2 * 10**9)


def test_gpus_as_the_driver_tells_them() -> None:
    found = [device for _, device in nvidia(SMI)]
    assert [(d.name, d.bf16) for d in found] == [("cuda:0", True), ("cuda:1", False)]  # one is cut in parts
    assert found[0].free_bytes == 23028 * 2**20 - PROCESS_BYTES
    assert nvidia("") == nvidia("Failed to initialize NVML: Driver/library version mismatch\n") == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, [23028, 81000]),
        ("1", [81000]),
        ("1,0", [81000, 23028]),
        ("GPU-3c", [81000]),
        ("1,7,0", [81000]),  # CUDA stops at the first that is none
        ("-1", []),
        ("", []),
    ],
)
def test_gpus_that_cuda_would_not_see_are_none(said: str | None, expected: list[int]) -> None:
    found = visible(nvidia(SMI), said)
    assert [d.free_bytes for d in found] == [mib * 2**20 - PROCESS_BYTES for mib in expected]
    assert [d.index for d in found] == list(range(len(expected)))


def test_a_container_bounds_the_memory(tmp_path: Path) -> None:
    """A process that goes beyond is killed, however much the machine has free."""
    assert container_memory(tmp_path) == []
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\nslab 1\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert container_memory(tmp_path) == []
    (tmp_path / "memory.max").write_text("5000\n")
    assert container_memory(tmp_path) == [4300]
    (tmp_path / "memory.current").write_text("6000\n")
    assert container_memory(tmp_path) == [0]


def test_an_older_container_bounds_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    for name, text in (("limit_in_bytes", "5000"), ("usage_in_bytes", "1000"), ("stat", "total_inactive_file 200")):
        (folder / f"memory.{name}").write_text(f"{text}\n")
    assert container_memory(tmp_path) == [4200]
