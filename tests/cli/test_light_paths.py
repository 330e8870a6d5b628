"""Commands that load no model import none of what loads models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cache_files import put

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
        env={**os.environ, "CHATCLI_HOME": str(tmp_path), "HF_HOME": str(tmp_path), "MODELSCOPE_CACHE": str(tmp_path)},
        input='{"messages": [{"role": "user", "content": "some text"}]}',
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
        ("adapters",),
        ("adapters", "--json"),
        ("adapters", "show", "chatml"),
        ("adapters", "match", "lmsys/vicuna-7b-v1.5"),
        ("adapters", "match", "guide"),
        ("adapters", "render", "guide"),
        ("models", "show", "guide"),
        ("models", "plan", "guide"),
        ("models", "plan", "guide", "--json"),
        ("models",),
        ("models", "alias"),
        ("tokens",),
        ("tokens", "--chat", "--ids"),
    ],
    ids=" ".join,
)
def test_light_commands_stay_light(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, modules = imported(tmp_path, *arguments)
    assert code == 0
    assert out or arguments[0] in ("history", "models")  # of which there may be none
    assert "chatcli" in modules
    assert not modules & HEAVY


def test_a_list_of_models_reads_their_headers_without_torch(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/chat")
    code, out, modules = imported(tmp_path, "models", "--json")
    assert code == 0 and '"F32"' in out
    assert not modules & HEAVY


@pytest.mark.parametrize(("name", "ids"), [("chatglm1", "5 41 145"), ("chatglm3", "478 686"), ("glm4", "343 161 519")])
def test_tokens_of_old_vocabulary_files_are_counted_without_torch(tmp_path: Path, name: str, ids: str) -> None:
    folder = Path(__file__).parent.parent / "golden" / "chatglm" / name
    code, out, modules = imported(tmp_path, "tokens", "--ids", "-m", str(folder), "你好")
    assert (code, out) == (0, f"{ids}\n")
    assert not modules & HEAVY
