"""Commands that load no model import none of what loads models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "accelerate", "prompt_toolkit", "huggingface_hub", "numpy", "sympy"}
REPORT = """
import os, sys
sys.argv = ["chatcli", *{arguments!r}]
os._exit = lambda code: sys.exit(code)
from chatcli.__main__ import main
try:
    main()
finally:
    print("MODULES", *{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""


def imported(tmp_path: Path, *arguments: str) -> tuple[int, str, set[str]]:
    """Exit code, output and top-level modules of a run."""
    ran = subprocess.run(
        [sys.executable, "-c", REPORT.format(arguments=list(arguments))],
        env={**os.environ, "CHATCLI_HOME": str(tmp_path)},
        input="some text",
        capture_output=True,
        text=True,
        check=False,
    )
    modules = ran.stderr.rpartition("MODULES")[2].split()
    return ran.returncode, ran.stdout, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("ask", "--help"),
        ("run", "--help"),
        ("history",),
        ("history", "search", "a"),
        ("history", "path"),
        ("history", "export", "--all", "--format", "html"),
        ("config", "show"),
        ("config", "path"),
        ("tokens",),
        ("tokens", "--chat", "--ids"),
    ],
    ids=" ".join,
)
def test_light_commands_stay_light(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, modules = imported(tmp_path, *arguments)
    assert code == 0
    assert out or arguments[0] == "history"
    assert "chatcli" in modules
    assert not modules & HEAVY
