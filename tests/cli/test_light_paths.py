"""Commands that load no model import none of what loads models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cache_files import put
from faulty_server import serving

from chatcli.cli.main import COMMANDS, GROUPS

HEAVY = {
    "torch",
    "transformers",
    "accelerate",
    "prompt_toolkit",
    "huggingface_hub",
    "numpy",
    "sympy",
    "starlette",
    "uvicorn",
}
REPORT = """
import os, sys
sys.argv = ["chatcli", *{arguments!r}]
os._exit = lambda code: sys.exit(code)
from chatcli.__main__ import main
try:
    main()
finally:
    print("MODULES", *sys.modules, file=sys.stderr)
"""


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def imported(tmp_path: Path, *arguments: str) -> tuple[int, str, set[str]]:
    """Exit code, output and modules of a run."""
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
        ("serve", "--help"),
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
        ("servers",),
        ("tokens",),
        ("tokens", "--chat", "--ids"),
    ],
    ids=" ".join,
)
def test_light_commands_stay_light(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, modules = imported(tmp_path, *arguments)
    assert code == 0
    assert out or arguments[0] in ("history", "models", "servers")  # of which there may be none
    assert "chatcli" in modules
    assert not packages(modules) & HEAVY


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
    assert not packages(modules) & HEAVY


ROWS = [
    *COMMANDS.values(),
    *(row for group in GROUPS.values() for row in (group.alone, *group.commands.values()) if row),
]
COMMAND_FILES = {"chatcli.cli." + row.partition(":")[0] for row in ROWS}


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (("--version",), set()),
        (("ask", "--help"), {"chatcli.cli.ask"}),
        (("history", "path"), {"chatcli.cli.history.listing"}),
        (("config", "path"), {"chatcli.cli.config"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_imports_no_other(tmp_path: Path, arguments: tuple[str, ...], files: set[str]) -> None:
    code, _, modules = imported(tmp_path, *arguments)
    assert code == 0
    assert modules & COMMAND_FILES == files


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_need_no_settings_no_history_no_template(tmp_path: Path, argument: str) -> None:
    code, _, modules = imported(tmp_path, argument)
    assert code == 0
    assert not packages(modules) & {"rich", "jinja2", "tokenizers", "platformdirs", "sqlite3", "tomllib", "tomlkit"}


@pytest.mark.slow
def test_a_cold_answer_imports_nothing_but_its_model(tmp_path: Path, tiny_llama: Path) -> None:
    """The tokenizer is read as it is; what renders, constrains, edits and compiles stays away from a plain answer."""
    code, out, modules = imported(tmp_path, "ask", "-m", str(tiny_llama), "--max-tokens", "2", "hello")
    assert code == 0 and out
    assert {"torch", "tokenizers", "transformers.models.llama.modeling_llama"} <= modules
    assert not packages(modules) & {
        "prompt_toolkit",
        "rich",
        "pygments",
        "markdown_it",
        "llguidance",
        "tomlkit",
        "sympy",
    }
    assert not modules & {"torch._dynamo.convert_frame", "torch._inductor", "torch.distributed.tensor"}
    assert not modules & {"chatcli.repl", "chatcli.server", "chatcli.runtime.constrain", "chatcli.runtime.batch"}
    assert not modules & {f"chatcli.runtime.ports.{name}" for name in ("chatglm", "baichuan", "qwen", "yuan")}


def test_asking_a_server_imports_no_model_and_little_else(tmp_path: Path) -> None:
    with serving() as server:
        code, out, modules = imported(tmp_path, "ask", "--server", server.url, "hello")
    assert (code, out) == (0, "Yes.\n")
    assert "chatcli.engines.remote" in modules
    assert not packages(modules) & HEAVY
    unneeded = {"httpx", "httpx2", "rich", "pygments", "jinja2", "tokenizers", "llguidance", "keyring"}
    assert not packages(modules) & unneeded
    assert not modules & {"chatcli.repl", "chatcli.server", "chatcli.engines.local", "chatcli.engines.together"}
