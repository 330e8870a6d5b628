"""`chatcli pull` as a shell sees it, from a Hub on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from hub_server import CHAT_MODEL, COMMIT, LocalHub, safetensors
from modelscope_server import LocalModelScope, serving
from typer.testing import CliRunner, Result
from waiting import until

from chatcli.cli.main import app

Chatcli = Callable[..., Result]


@pytest.fixture
def variables(tmp_path: Path, local_hub: LocalHub) -> dict[str, str]:
    own = {"CHATCLI_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": local_hub.url}
    own |= {"MODELSCOPE_CACHE": str(tmp_path / "scope"), "MODELSCOPE_HOME": str(tmp_path / "scope-home")}
    return {**{k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}, **own}


@pytest.fixture
def chatcli(variables: dict[str, str]) -> Chatcli:
    """Runs a command in this process, for a start costs more than most of what is tested here."""

    def run(*arguments: str, **more: str) -> Result:
        return CliRunner(env={**variables, **more}).invoke(app, arguments, prog_name="chatcli")

    return run


def test_a_script_gets_the_folder_and_nothing_else(tmp_path: Path, chatcli: Chatcli, local_hub: LocalHub) -> None:
    folder = tmp_path / "hf" / "hub" / "models--org--chat" / "snapshots" / COMMIT
    first = chatcli("pull", "org/chat")
    assert (first.exit_code, first.stdout, first.stderr) == (0, f"{folder}\n", "")
    assert "modeling_evil.py" not in local_hub.fetched() and "tf_model.h5" not in local_hub.fetched()
    local_hub.requests.clear()
    again = chatcli("models", "pull", "org/chat")
    assert (again.exit_code, again.stdout) == (0, f"{folder}\n")
    assert local_hub.fetched() == set()
    assert json.loads(chatcli("models", "--json").stdout)[0]["name"] == "org/chat"


def test_what_is_here_is_enough_where_nobody_answers(chatcli: Chatcli, local_hub: LocalHub) -> None:
    folder = chatcli("pull", "org/chat").stdout
    local_hub.requests.clear()
    offline = chatcli("pull", "org/chat", HF_HUB_OFFLINE="1")
    assert (offline.exit_code, offline.stdout, offline.stderr.count("\n")) == (0, folder, 1)
    assert local_hub.requests == []
    refused = chatcli("pull", "org/chat", HF_ENDPOINT="http://127.0.0.1:9")
    assert (refused.exit_code, refused.stdout) == (0, folder)
    assert "newer" in refused.stderr
    nothing = chatcli("pull", "org/other", HF_HUB_OFFLINE="1")
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    assert "HF_HUB_OFFLINE" in nothing.stderr


def test_what_cannot_chat_is_fetched_only_by_force(chatcli: Chatcli, local_hub: LocalHub) -> None:
    classifier = b'{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'
    local_hub.models["org/classifier"] = {**CHAT_MODEL, "config.json": classifier}
    refused = chatcli("pull", "org/classifier")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "classifier" in refused.stderr and "--force" in refused.stderr
    assert "model.safetensors" not in local_hub.fetched()
    forced = chatcli("pull", "org/classifier", "--force")
    assert forced.exit_code == 0 and "classifier" in forced.stderr
    assert "model.safetensors" in local_hub.fetched()


def test_a_model_for_vectors_is_fetched_with_what_says_how_they_are_made(chatcli: Chatcli, local_hub: LocalHub) -> None:
    encoder = b'{"model_type": "bert", "architectures": ["BertModel"]}'
    beside = {"modules.json": b"[]", "1_Pooling/config.json": b"{}", "sentence_bert_config.json": b"{}"}
    local_hub.models["org/encoder"] = {**CHAT_MODEL, "config.json": encoder, **beside}
    fetched = chatcli("pull", "org/encoder")
    assert fetched.exit_code == 0
    assert all((Path(fetched.stdout.strip()) / name).is_file() for name in (*beside, "model.safetensors"))


def test_the_progress_goes_before_an_error_is_told(variables: dict[str, str], local_hub: LocalHub) -> None:
    tagger = b'{"model_type": "bert", "architectures": ["BertForTokenClassification"]}'
    local_hub.models["org/tagger"] = {**CHAT_MODEL, "config.json": tagger}
    local_hub.faults["GET /org/tagger/resolve"] = "slow"
    shown = pexpect.run(
        f"{sys.executable} -m chatcli pull org/tagger",
        env={**variables, "TERM": "xterm"},
        encoding="utf-8",
        timeout=None,
    )
    before, said, _ = shown.partition("chatcli: org/tagger is a tagger")
    assert "downloading" in before and said
    assert before.endswith(("\x1b[J", "\x1b[2K"))


def test_ctrl_c_keeps_what_is_here_and_the_next_pull_goes_on(
    tmp_path: Path, variables: dict[str, str], chatcli: Chatcli, local_hub: LocalHub
) -> None:
    size = 3 << 20
    local_hub.models["org/chat"]["model.safetensors"] = content = safetensors("w", size=size)
    local_hub.faults["GET /cdn/"] = ["stall"]
    running = subprocess.Popen(
        [sys.executable, "-m", "chatcli", "pull", "org/chat"], env=variables, stdout=-1, stderr=-1, text=True
    )
    blobs = tmp_path / "hf" / "hub" / "models--org--chat" / "blobs"
    until(lambda: any(part.stat().st_size >= size // 4 for part in blobs.glob("*.incomplete")))
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, out, err) == (-signal.SIGINT, "", "")
    [listed] = json.loads(chatcli("models", "--json").stdout)
    assert not listed["complete"] and listed["why_not"] == "not whole"
    assert size // 4 < listed["bytes"] < listed["wanted_bytes"]
    assert "of 3.1 MB" in chatcli("models").stdout
    done = chatcli("pull", "org/chat")
    assert done.exit_code == 0
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == content
    assert local_hub.ranges("model.safetensors")[-1] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("org/none",), 3, "no model org/none"),
        (("org/chat", "--revision", "v9"), 3, "no revision v9"),
        (("org/chat", "--source", "ftp"), 2, "hf and modelscope"),
        (("guide",), 2, "part of chatcli"),
        ((".",), 2, "a folder on this machine"),
        (("a b",), 3, "a name that the Hub could have"),
        (("",), 2, "empty"),
    ],
)
def test_what_cannot_be_fetched(chatcli: Chatcli, arguments: tuple[str, ...], code: int, says: str) -> None:
    ran = chatcli("pull", *arguments)
    assert (ran.exit_code, ran.stdout, ran.stderr.count("\n")) == (code, "", 1)
    assert says in ran.stderr


def test_a_revision_and_an_alias(chatcli: Chatcli) -> None:
    chatcli("models", "alias", "small", "org/chat")
    assert chatcli("pull", "small", "--revision", "v1").exit_code == 0
    [listed] = json.loads(chatcli("models", "--json").stdout)
    assert (listed["name"], listed["label"], listed["revision"]) == ("org/chat", "v1", COMMIT)


def test_modelscope_is_a_source(tmp_path: Path, chatcli: Chatcli, variables: dict[str, str]) -> None:
    with serving(LocalModelScope()) as scope:
        done = subprocess.run(
            [sys.executable, "-m", "chatcli", "pull", "org/chat-1.5", "--source", "modelscope"],
            env={**variables, "MODELSCOPE_ENDPOINT": scope.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, ""), "the package's own lines would stand in ours"
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "scope")
    [listed] = json.loads(chatcli("models", "--json").stdout)
    assert (listed["name"], listed["source"], listed["chats"]) == ("org/chat-1.5", "modelscope", True)
    assert f"config.json of {listed['path']}" in chatcli("adapters", "match", "org/chat-1.5").stdout
