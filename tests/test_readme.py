"""Every example of the README and of the pages behind it runs, as it stands, in a real terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import pytest
from faulty_server import serving

from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.session import Session

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


PAGES = (
    README,
    *(
        (ROOT / "docs" / page).read_text(encoding="utf-8")
        for page in ("scripts.md", "adapters.md", "speed.md", "servers.md", "tools.md")
    ),
)


def examples() -> list[str]:
    """Every line of the pages' shell blocks, without comments; the two lines that install are run by hand and by CI."""
    blocks = [block for page in PAGES for block in re.findall(r"^```sh\n(.*?)```", page, re.DOTALL | re.MULTILINE)]
    lines = [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and "venv" not in line]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where the server is that the examples call localhost:8000."""
    with serving(models=[{"id": "tiny", "owned_by": "vllm"}]) as running:
        yield f"localhost:{running.server_port}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path], server: str) -> Path:
    """A folder where everything that the examples name is: a model in the Hub's cache, a folder, a repository."""
    home = tmp_path_factory.mktemp("home")
    tiny = make_checkpoint("qwen3", seed=3, head_dim=8, max_position_embeddings=2048)
    cached = home / "hf" / "hub" / "models--Qwen--Qwen3-0.6B"
    shutil.copytree(tiny, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    shutil.copytree(tiny, home / "my-finetune")
    profiles = (
        f'[servers.home]\nurl = "http://{server}"\nmodel = "tiny"\n[servers.openai]\nurl = "https://api.openai.com"\n'
    )
    (home / "chatcli" / "config").mkdir(parents=True)
    (home / "chatcli" / "config" / "config.toml").write_text(profiles)
    with closing(Store.open(home / "chatcli" / "data" / "history.db")) as store:
        list(Session(ScriptedEngine(["Yes."]), GenerationSettings(), store).say("Is there a talk to go on with?"))
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    (home / "notes.txt").write_text("one\n")
    subprocess.run(["git", "add", "notes.txt"], cwd=home, check=True)
    (home / "notes.txt").write_text("two\n")
    (home / "questions.jsonl").write_text('"How do I leave?"\n{"id": 7, "prompt": "Name a river.", "max_tokens": 5}\n')
    return home


@pytest.fixture(scope="module")
def surroundings(home: Path) -> Iterator[dict[str, str]]:
    """What the examples run in. Models stay from one to the next, as they do for people, and are ended at last."""
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CHATCLI_HOME": str(home / "chatcli"),
        "CHATCLI_MAX_TOKENS": "16",
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "CHATCLI_KEEP_ALIVE": "2m",
    }
    yield variables
    subprocess.run([sys.executable, "-m", "chatcli", "stop"], env=variables, check=True)


def test_there_are_examples_of_every_command() -> None:
    from chatcli.cli.main import surface

    commands = {name.split()[1] for name in surface() if len(name.split()) > 1 and "--" not in name}
    assert commands == {word for line in examples() if (word := line.partition("chatcli ")[2].partition(" ")[0])}


@pytest.mark.slow
@pytest.mark.parametrize("line", examples())
def test_the_example_runs(line: str, home: Path, server: str, surroundings: dict[str, str]) -> None:
    line = line.replace("localhost:8000", server).replace("chatcli serve ", "chatcli serve --port 0 ")
    child = pexpect.spawn("bash", ["-c", line], cwd=str(home), env=surroundings, timeout=None, dimensions=(30, 100))
    if "chatcli serve " in line:
        child.expect_exact("A page to chat is at http://127.0.0.1:")
        child.sendintr()
    if line.partition("chatcli ")[2].startswith("run"):
        # Keys before the prompt is there, or while a reply comes, would count as typed ahead, not as sent.
        child.expect_exact("\x1b[0;1m>")
        child.send("/exit\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = README[README.index("    chatcli/\n") : README.index("    completions/")]
    drawn = set(re.findall(r"^ .{7}([a-z_]+(?:\.py|/)) ", tree, re.MULTILINE))
    package = ROOT / "chatcli"
    there = {p.name + ("/" if p.is_dir() else "") for p in package.iterdir() if not p.name.startswith(("_", "."))}
    assert drawn == there - {"py.typed"}


@pytest.mark.parametrize("script", ["make_docs.py", "draw_chart.py"])
def test_what_is_generated_is_fresh(script: str) -> None:
    ran = subprocess.run([sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, check=False)
    assert ran.returncode == 0, f"run scripts/{script}"
