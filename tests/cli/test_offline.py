"""What is on this machine is used without a word to the Hub, so a network that is not there costs no wait."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cache_files import SMALL, put
from hub_server import LocalHub
from typer.testing import CliRunner

from chatcli.cli.consent import agree_on_code
from chatcli.cli.main import app
from chatcli.config import load
from chatcli.environment import Environment
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.remote_code import agree

QUESTION = ("ask", "-m", "org/chat", "--max-tokens", "3", "Hello")


@pytest.fixture
def variables(tmp_path: Path, local_hub: LocalHub, tiny_llama: Path) -> dict[str, str]:
    """A model in the cache, and a Hub that takes every request and never answers."""
    local_hub.faults["/"] = "silence"
    put(tmp_path / "hf" / "hub", "org/chat", {path.name: path.read_bytes() for path in tiny_llama.iterdir()})
    own = {"CHATCLI_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": local_hub.url}
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    return {**kept, **own, "MODELSCOPE_CACHE": str(tmp_path / "scope")}


@pytest.mark.slow
def test_a_model_on_disk_answers_and_nobody_is_asked(variables: dict[str, str], local_hub: LocalHub) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "chatcli", *QUESTION],
        stdin=subprocess.DEVNULL,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and ran.stdout.strip()
    assert local_hub.requests == []


def test_code_that_was_agreed_to_is_not_asked_for_again(
    tmp_path: Path, environment: Environment, local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --trust-remote-code the Hub was asked for its list of files, ten seconds of waiting without a network."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "code"))
    local_hub.faults["/"] = "silence"
    own = b'{"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}}'
    folder = put(tmp_path / "hub", "org/own", {**SMALL, "config.json": own, "modeling_own.py": b"pass"})
    agree(environment.state_folder, open_checkpoint(folder, "org/own", folder.name))
    variables = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": local_hub.url}
    offline = replace(environment, variables=variables)
    agree_on_code("org/own", load(offline), offline, "")
    assert local_hub.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("models", "show", "org/chat"),
        ("adapters", "match", "org/chat"),
        ("tokens", "-m", "org/chat", "Hello"),
        ("models", "rm", "org/chat", "--yes"),
    ],
    ids=" ".join,
)
def test_a_command_about_it_asks_nobody(
    variables: dict[str, str], local_hub: LocalHub, arguments: tuple[str, ...]
) -> None:
    ran = CliRunner(env=variables).invoke(app, arguments, prog_name="chatcli")
    assert ran.exit_code == 0 and ran.stdout
    assert local_hub.requests == []
