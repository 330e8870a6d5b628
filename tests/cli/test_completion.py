"""Completion in the real shells: commands and flags with no Python behind them, names from the lists."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pexpect
import pyte
import pytest
import typer

from chatcli.cli.completion import FILES, script
from chatcli.cli.completions.lists import refresh
from chatcli.cli.completions.tree import tree
from chatcli.cli.main import app, surface
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.session import Session

SCRIPTS = Path(__file__).parent.parent.parent / "completions"


@pytest.mark.parametrize("shell", FILES)
def test_the_scripts_are_fresh(shell: str) -> None:
    """`python scripts/make_completions.py` writes them."""
    made = script(shell, typer.main.get_command(app))
    assert (SCRIPTS / FILES[shell]).read_text(encoding="utf-8") == made


def test_the_tree_holds_every_command_and_long_option() -> None:
    found = set()
    for command in tree(typer.main.get_command(app)).walk():
        found.add(command.path)
        found |= {f"{command.path} {name}" for option in command.options for name in option.names if name[:2] == "--"}
    assert found - {f"{command.path} --help" for command in tree(typer.main.get_command(app)).walk()} == set(surface())


def needs(shell: str) -> str:
    path = shutil.which(shell)
    if not path and not os.environ.get("CI"):  # where every test must run, a missing shell is a failure
        pytest.skip(f"{shell} is not installed")
    assert path, f"{shell} is not installed"
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a stored talk, a cached model and the lists made of them; `chatcli` there only fails."""
    (tmp_path / "hf" / "hub" / "models--Qwen--Qwen3-0.6B" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "talks").mkdir()
    broken = tmp_path / "bin" / "chatcli"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho PYTHON STARTED\nexit 1\n")
    broken.chmod(0o755)
    root = tmp_path / "home"
    own = root / "config" / "templates"
    own.mkdir(parents=True)
    for name in ("my notes", "$(touch RUN)", "`touch RUN`"):
        (own / f"{name}.md").write_text("{# Odd: a name #}{{ input }}")
    environment = Environment(
        sys.stdin,
        sys.stdout,
        sys.stderr,
        {"HF_HOME": str(tmp_path / "hf")},
        root / "config",
        root / "data",
        root / "state",
    )
    with closing(Store.open(root / "data" / "history.db")) as store:
        list(Session(ScriptedEngine(["Yes."]), GenerationSettings(), store).say("Where is Rome: in Italy?"))
    refresh(environment)
    return tmp_path


def stored_id(home: Path) -> str:
    line = (home / "home" / "state" / "completion" / "conversations").read_text().splitlines()[0]
    return line.partition("\t")[0]


def surroundings(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "CHATCLI_HOME": str(home / "home"),
        "HOME": str(home),
        "TERM": "xterm",
        "PS1": "$ ",
        "LC_ALL": "C.UTF-8",
    }


class Shell:
    """An interactive shell on a pseudo-terminal, with the completion loaded."""

    def __init__(self, home: Path, command: list[str], setup: str) -> None:
        self.screen = pyte.Screen(160, 50)
        self._stream = pyte.ByteStream(self.screen)
        self.process = pexpect.spawn(
            command[0], command[1:], env=surroundings(home), cwd=str(home), dimensions=(50, 160), timeout=30
        )
        self.process.sendline(f"{setup}; echo rea''dy")
        self.wait("ready")

    def wait(self, expected: str) -> None:
        """Read until a row of the screen has it; the test's own limit of time is the only one."""
        try:
            while not any(expected in row for row in self.screen.display):
                self._stream.feed(self.process.read_nonblocking(4096, timeout=None))
        except BaseException:
            print("\n".join(self.screen.display).rstrip())
            raise

    def completes(self, line: str, word: str) -> None:
        """Tab makes `word` of the line's last word."""
        self.process.send(f"{line}\t")
        self.wait(f"$ {line.rpartition(' ')[0]} {word}")
        self.process.send("\x03")


CASES = [
    ("chatcli as", "ask"),
    ("chatcli history sh", "show"),
    ("chatcli ask --repet", "--repetition-penalty"),
    ("chatcli ask --model Qw", "Qwen/Qwen3-0.6B"),
    ("chatcli run gui", "guide"),
    ("chatcli pull Qw", "Qwen/Qwen3-0.6B"),
    ("chatcli models rm Qw", "Qwen/Qwen3-0.6B"),
    ("chatcli ask --overflow dro", "drop-oldest"),
    ("chatcli completion po", "powershell"),
    ("chatcli config set repet", "repetition_penalty"),
]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_an_interactive_shell_completes(shell: str, home: Path) -> None:
    setup = {
        "bash": (["--norc", "--noprofile", "-i"], f"source {SCRIPTS / 'chatcli.bash'}"),
        "zsh": (["-f", "-i"], f"fpath=({SCRIPTS} $fpath); autoload -U compinit; compinit -D -u"),
    }[shell]
    shown = Shell(home, [needs(shell), *setup[0]], setup[1])
    for line, word in CASES:
        shown.completes(line, word)
    shown.completes(f"chatcli history show {stored_id(home)[:5]}", stored_id(home))
    shown.completes("chatcli ask '[x' --repet", "--repetition-penalty")
    shown.completes("chatcli ask -t my", r"my\ notes")
    shown.process.send("chatcli ask -t \t\t")
    shown.wait("summarise")
    assert not (home / "RUN").exists(), "a name in a list was run as a command"
    assert not any("PYTHON" in row for row in shown.screen.display)
    shown.process.close(force=True)


@pytest.mark.parametrize(("line", "expected"), [*CASES, ("chatcli history show ", "")])
def test_fish_completes(line: str, expected: str, home: Path) -> None:
    ask = f"source {SCRIPTS / 'chatcli.fish'}; complete -C '{line}'"
    done = subprocess.run(
        [needs("fish"), "--no-config", "-c", ask],
        env=surroundings(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    words = [found.partition("\t")[0] for found in done.stdout.splitlines()]
    assert (expected or stored_id(home)) in words
    assert "PYTHON" not in done.stdout


def test_a_list_is_written_again_only_when_its_source_is_newer(home: Path) -> None:
    written = home / "home" / "state" / "completion" / "conversations"
    written.write_text("mine\there\n")
    root = home / "home"
    environment = Environment(sys.stdin, sys.stdout, sys.stderr, {}, root / "config", root / "data", root / "state")
    refresh(environment)
    assert written.read_text() == "mine\there\n"
    later = written.stat().st_mtime + 10
    os.utime(root / "data" / "history.db", (later, later))
    refresh(environment)
    assert "Where is Rome" in written.read_text()


def test_every_model_on_this_machine_is_in_the_list(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "scope" / "models" / "org" / "scope-1___5").mkdir(parents=True)
    (tmp_path / "own" / "mine").mkdir(parents=True)
    (tmp_path / "own" / "mine" / "config.json").write_text("{}")
    variables = {"HF_HOME": str(tmp_path), "MODELSCOPE_CACHE": str(tmp_path / "scope")}
    refresh(replace(environment, variables={**variables, "CHATCLI_MODEL_FOLDERS": str(tmp_path / "own")}))
    names = [line.partition("\t")[0] for line in (environment.state_folder / "completion" / "models").open()]
    assert names == ["guide", "org/scope-1.5", "mine"]


def test_a_damaged_history_is_never_set_aside_without_a_word(environment: Environment) -> None:
    environment.data_folder.mkdir(parents=True)
    (environment.data_folder / "history.db").write_bytes(b"not a database, " * 300)
    told = io.StringIO()
    refresh(replace(environment, stderr=told))
    assert "damaged" in told.getvalue()
    assert list(environment.data_folder.glob("history.db.corrupt-*"))


def test_lists_that_cannot_be_written_are_no_error(environment: Environment) -> None:
    environment.state_folder.parent.mkdir(exist_ok=True)
    environment.state_folder.write_text("a file in the folder's place")
    refresh(environment)
    assert environment.state_folder.is_file()


@pytest.mark.parametrize("shell", FILES)
def test_install_puts_the_script_where_the_shell_looks(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatcli", "completion", shell, "--install"],
        env={**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "CHATCLI_HOME": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    installed = [path for path in tmp_path.rglob("*chatcli*") if path.is_file()]
    assert [path.read_text(encoding="utf-8") for path in installed if path.parent.name != "completion"] == [
        (SCRIPTS / FILES[shell]).read_text(encoding="utf-8")
    ]
    assert done.stdout == ""
