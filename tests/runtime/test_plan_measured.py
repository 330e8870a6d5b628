"""The plan's estimate against the memory that a process really takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from measured import measure, write

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no resource module")]


def test_the_estimate_is_within_a_tenth_on_a_cpu(tmp_path: Path) -> None:
    write(tmp_path, layers=14)
    for found in measure(tmp_path, "cpu", 500, 3000):
        assert found["taken"] == pytest.approx(found["estimated"], rel=0.1)
        assert found["taken"] > found["weights"]  # it was all of it
