"""The plan's estimate against the memory that a GPU really gives, and the devices as torch sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from measured import measure, write

from chatcli.models import machine

pytestmark = pytest.mark.gpu


def test_the_estimate_is_within_a_tenth_on_a_gpu(tmp_path: Path) -> None:
    write(tmp_path, layers=24)
    for found in measure(tmp_path, "cuda", 500, 6000):
        assert found["taken"] == pytest.approx(found["estimated"], rel=0.1)
        assert found["taken"] > found["weights"]


def test_the_driver_tells_of_the_same_gpus_as_torch() -> None:
    from chatcli.runtime.devices import devices

    told, seen = machine.devices(os.environ), devices()
    assert [(d.name, d.bf16) for d in told] == [(d.name, d.bf16) for d in seen]
    for ours, torchs in zip(told, seen, strict=True):
        assert ours.free_bytes == pytest.approx(torchs.free_bytes, abs=2 * 10**9)
