"""Code that a checkpoint brings: it runs only after a yes, for one commit, with just those bytes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
import torch
from safetensors.torch import load_file

from chatcli.errors import RemoteCodeRefused
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.models.remote_code import agree, code_files, fingerprint, is_agreed, require_agreement, tokenizer_code
from chatcli.runtime.remote_code import code_needed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig

Path({canary!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "our_own"
"""
MODEL = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
AUTO_MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
Chatcli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that is there once the code ran."""
    return tmp_path / "canary"


@pytest.fixture
def own(tiny_llama: Path, tmp_path: Path, canary: Path) -> Path:
    """A checkpoint of a family that only its own code knows."""
    folder = tmp_path / "own-chat"
    shutil.copytree(tiny_llama, folder)
    (folder / "configuration_own.py").write_text(CONFIGURATION.format(canary=str(canary)))
    (folder / "modeling_own.py").write_text(MODEL)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "our_own", "auto_map": AUTO_MAP}))
    return folder


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    variables = {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
    return {name: value for name, value in variables.items() if name not in ("HF_MODULES_CACHE", "HF_HUB_OFFLINE")}


@pytest.fixture
def ask(variables: dict[str, str]) -> Chatcli:
    def run(*arguments: str, stdin: str = "y\n") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chatcli", "ask", "--max-tokens", "2", "--temperature", "0", *arguments, "hello"],
            input=stdin,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            umask=0,
        )

    return run


def answered_in_a_terminal(variables: dict[str, str], answer: str, *arguments: str) -> tuple[str, int]:
    """What the terminal showed, and the exit code."""
    command = ["-m", "chatcli", "ask", "--max-tokens", "2", *arguments, "hello"]
    child = pexpect.spawn(sys.executable, command, env=variables, dimensions=(24, 200), timeout=None, encoding="utf-8")
    child.expect_exact("run it? [y/N] ")
    asked = str(child.before)
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    return asked + str(child.before), child.exitstatus


def refusal(ran: subprocess.CompletedProcess[str]) -> str:
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.count("\n") == 1
    return ran.stderr


@pytest.mark.slow
def test_a_folders_code_runs_when_its_fingerprint_is_pinned_and_until_it_changes(
    own: Path, ask: Chatcli, canary: Path, tmp_path: Path
) -> None:
    """`y` on standard input is no consent: it is the question."""
    refused = refusal(ask("-m", str(own)))
    assert "(configuration_own.py, modeling_own.py)" in refused and "--trust-remote-code" in refused
    pin = fingerprint(own)
    pinned = f"--trust-remote-code --revision {pin} --model {own}."
    assert pinned in refusal(ask("-m", str(own), "--trust-remote-code"))
    assert pin in refusal(ask("-m", str(own), "--trust-remote-code", "--revision", COMMIT))
    assert not canary.exists()

    agreed = ask("-m", str(own), "--trust-remote-code", "--revision", pin)
    assert (agreed.returncode, agreed.stderr) == (0, "")
    assert canary.exists()
    kept = tmp_path / "home" / "state" / "trusted-code.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home" / "state" / "code").stat().st_mode) == 0o700
    assert not (tmp_path / "hf" / "modules").exists()
    assert ask("-m", str(own)).stdout == agreed.stdout

    canary.unlink()
    (own / "modeling_own.py").write_text(MODEL + "\n")
    assert "modeling_own.py" in refusal(ask("-m", str(own)))
    assert not canary.exists()


@pytest.mark.slow
def test_a_terminal_shows_files_and_commit_and_asks_once(
    own: Path, variables: dict[str, str], canary: Path, local_hub
) -> None:
    """The Hub's code is fetched after the yes alone, and for that commit; the next time nobody asks."""
    variables["HF_ENDPOINT"] = local_hub.url
    local_hub.models["org/own-chat"] = {path.name: path.read_bytes() for path in own.iterdir()}
    options = ("-m", "org/own-chat", "--trust-remote-code")
    shown, code = answered_in_a_terminal(variables, "n", *options)
    assert code == 3
    assert "configuration_own.py" in shown and "modeling_own.py" in shown and f"commit {COMMIT}" in shown
    fetched = local_hub.fetched()
    assert "config.json" in fetched and not any(name.endswith((".py", ".safetensors")) for name in fetched)
    assert not canary.exists()

    shown, code = answered_in_a_terminal(variables, "y", *options)
    assert code == 0
    assert f"runs Python code of org/own-chat, commit {COMMIT}" in shown
    paths = [r for r in local_hub.requests if r.startswith("GET") and r.endswith(".py")]
    assert paths and all(f"/resolve/{COMMIT}/" in path for path in paths)
    assert canary.exists()
    agreed = Path(variables["HF_HOME"]) / f"hub/models--org--own-chat/snapshots/{COMMIT}"
    assert is_agreed(Path(variables["CHATCLI_HOME"]) / "state", open_checkpoint(agreed, "org/own-chat", COMMIT))


@pytest.mark.slow
def test_a_script_pins_the_whole_commit(own: Path, variables: dict[str, str], ask: Chatcli, local_hub) -> None:
    """Without consent not even the weights are fetched."""
    variables["HF_ENDPOINT"] = local_hub.url
    local_hub.models["org/own-chat"] = {path.name: path.read_bytes() for path in own.iterdir()}
    assert "modeling_own.py" in refusal(ask("-m", "org/own-chat"))
    refused = refusal(ask("-m", "org/own-chat", "--trust-remote-code", "--revision", "main"))
    assert f"--trust-remote-code --revision {COMMIT} --model org/own-chat" in refused
    assert not any(name.endswith((".py", ".safetensors")) for name in local_hub.fetched())
    local_hub.faults["/model.safetensors"] = "gated"  # to answer would take seconds more
    assert "HF_TOKEN" in refusal(ask("-m", "org/own-chat", "--trust-remote-code", "--revision", COMMIT))
    assert {"configuration_own.py", "modeling_own.py"} <= local_hub.fetched()


@pytest.mark.slow
def test_pickled_weights_of_the_hub_are_loaded_and_nobody_is_asked_to_convert_them(
    tiny_llama: Path, variables: dict[str, str], ask: Chatcli, local_hub
) -> None:
    """transformers would open a thread that asks a service on the Hub for a pull request."""
    variables["HF_ENDPOINT"] = local_hub.url
    variables["DISABLE_SAFETENSORS_CONVERSION"] = "0"
    files = {path.name: path.read_bytes() for path in tiny_llama.iterdir()}
    pickled = tiny_llama.parent / "pytorch_model.bin"
    torch.save(load_file(tiny_llama / "model.safetensors"), pickled)
    del files["model.safetensors"]
    local_hub.models["org/bin-chat"] = {**files, "pytorch_model.bin": pickled.read_bytes()}
    ran = ask("-m", "org/bin-chat")
    assert (ran.returncode, ran.stderr) == (0, "")
    asked = {path.partition(" ")[2] for path in local_hub.requests}
    listing = "/api/models/org/bin-chat/revision/main"
    assert listing in asked
    assert all(path.startswith(f"/org/bin-chat/resolve/{COMMIT}/") for path in asked - {listing})


def checkpoint(folder: Path, model_type: str, **files: object) -> Checkpoint:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    config = {"model_type": model_type, "auto_map": AUTO_MAP} if model_type != "llama" else {"model_type": "llama"}
    return Checkpoint("org/own", folder, "", config, {})


@pytest.mark.slow
def test_code_is_named_where_there_is_no_chat_format_either(own: Path, ask: Chatcli, canary: Path) -> None:
    settings = json.loads((own / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (own / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "modeling_own.py" in refusal(ask("-m", str(own)))
    assert not canary.exists()


def test_code_in_another_repository_is_never_run(tmp_path: Path) -> None:
    """Its own commit says nothing of what that other one holds."""
    foreign = checkpoint(tmp_path, "our_own")
    trusted = Checkpoint("org/own", tmp_path, COMMIT, foreign.config, {}, trusted=True)
    require_agreement(trusted, ("modeling_own.M",))
    with pytest.raises(RemoteCodeRefused, match=r"\(sub/modeling_other\.py of their/model\)"):
        require_agreement(trusted, ("modeling_own.M", "their/model--sub.modeling_other.M"))
    with pytest.raises(RemoteCodeRefused, match=r"\(configuration_own\.py, modeling_own\.py\)"):
        require_agreement(foreign, code_needed(foreign))


def test_a_tokenizer_of_its_own_counts_where_nothing_else_can_read_its_files(tmp_path: Path) -> None:
    table = {"auto_map": {"AutoTokenizer": ["tokenization_own.T", None]}, "tokenizer_class": "OwnTokenizer"}
    llama = checkpoint(tmp_path, "llama", tokenizer_config=table)
    assert code_needed(llama) == ("tokenization_own.T",)
    checkpoint(tmp_path, "llama", tokenizer_config={**table, "auto_map": ["tokenization_own.T", None]})
    assert tokenizer_code(llama) == ("tokenization_own.T",)
    checkpoint(tmp_path, "llama", tokenizer_config={**table, "tokenizer_class": "LlamaTokenizer"})
    assert code_needed(llama) == ()
    checkpoint(tmp_path, "llama", tokenizer_config=table, tokenizer={})
    assert code_needed(llama) == ()


def test_one_class_that_is_needed_brings_all_that_are_named(tmp_path: Path) -> None:
    """transformers, once trusted for the tokenizer, would run the model's code of another repository, too."""
    config = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "their/model--modeling_other.M"}}
    table = {"auto_map": {"AutoTokenizer": ["tokenization_own.T", None]}, "tokenizer_class": "OwnTokenizer"}
    llama = checkpoint(tmp_path, "llama", tokenizer_config=table)
    llama = replace(llama, config=config, trusted=True)
    with pytest.raises(RemoteCodeRefused, match=r"modeling_other\.py of their/model"):
        require_agreement(llama, code_needed(llama))


def test_code_in_a_linked_folder_is_code(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    folder.mkdir()
    (folder / "linked").symlink_to(outside)
    (outside / "circle").symlink_to(folder)
    (outside / "inner.py").write_text("x = 1")
    before = fingerprint(folder)
    assert code_files(folder) == ("linked/inner.py",)
    (outside / "inner.py").write_text("x = 2")
    assert fingerprint(folder) != before


def test_an_agreement_is_for_a_name_a_commit_and_these_bytes(own: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    at = {revision: open_checkpoint(own, "org/own", revision) for revision in (COMMIT, "f" * 40)}
    agree(state, at[COMMIT])
    agree(state, at[COMMIT])
    assert [is_agreed(state, each) for each in at.values()] == [True, False]
    assert not is_agreed(state, open_checkpoint(own, "org/other", COMMIT))
    (own / "sub").mkdir()
    (own / "sub" / "more.py").write_text("")
    assert not is_agreed(state, at[COMMIT])
    (own / "sub" / "more.py").unlink()
    assert is_agreed(state, at[COMMIT])
    assert len(json.loads((state / "trusted-code.json").read_text())["trusted"]) == 1
    (state / "trusted-code.json").write_text("[1]")
    assert not is_agreed(state, at[COMMIT])
