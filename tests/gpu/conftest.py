"""Tests that need a GPU; where there is none, they are not even collected."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

collect_ignore_glob = [] if shutil.which("nvidia-smi") else ["test_*.py"]
sys.path.append(str(Path(__file__).parent.parent / "runtime"))  # what both measure with
