"""`chatcli models` as a shell sees it: the list, rm, alias, the folders of the configuration."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from cache_files import SMALL, put
from hub_server import safetensors
from typer.testing import CliRunner, Result

from chatcli.adapters import table
from chatcli.cli.main import app
from chatcli.cli.models.facts import known
from chatcli.environment import Environment
from chatcli.models.inventory import inventory
from chatcli.models.places import Places

Chatcli = Callable[..., Result]
BASE = json.dumps({"n": 1}).encode()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    own = {"CHATCLI_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own, "MODELSCOPE_CACHE": str(tmp_path / "scope")}


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


@pytest.fixture
def chatcli(variables: dict[str, str]) -> Chatcli:
    """Runs a command in this process, for a start costs more than most of what is tested here."""

    def run(*arguments: str, **more: str) -> Result:
        return CliRunner(env={**variables, **more}).invoke(app, arguments, prog_name="chatcli")

    return run


def used(snapshot: Path, seconds: float) -> None:
    blob = (snapshot / "model.safetensors").resolve()
    os.utime(blob, (seconds, blob.stat().st_mtime))


def test_the_list_says_of_each_what_a_person_wants_to_know(hub: Path, chatcli: Chatcli) -> None:
    chat = put(hub, "Qwen/Qwen3-0.6B", {**SMALL, "config.json": b'{"model_type": "qwen3"}'})
    base = put(hub, "org/base", {**SMALL, "tokenizer_config.json": BASE})
    bert = {**SMALL, "config.json": b'{"model_type": "bert", "architectures": ["BertForMaskedLM"]}'}
    encoder = put(hub, "org/encoder", bert)
    broken = put(hub, "org/broken", {**SMALL, "model.safetensors": safetensors("w")[:-1]})
    part = put(hub, "org/part", {n: c for n, c in SMALL.items() if n != "model.safetensors"})
    for seconds, snapshot in enumerate((encoder, base, chat, broken), 1000):
        used(snapshot, seconds)
    ran = chatcli("models")
    assert (ran.exit_code, ran.stderr) == (0, "")
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert [row[0] for row in rows] == ["NAME", "org/broken", "Qwen/Qwen3-0.6B", "org/base", "org/encoder", "org/part"]
    assert [row[-1] for row in rows[1:]] == ["damaged", "yes", "model", "encoder", "whole"]
    assert "qwen3" in rows[2] and "F32" in rows[2]

    listed = {each["name"]: each for each in json.loads(chatcli("models", "--json").stdout)}
    found = listed["Qwen/Qwen3-0.6B"]
    assert (found["family"], found["parameters"], found["precision"], found["chats"]) == ("qwen3", 4096, "F32", True)
    assert found["bytes"] > len(SMALL["model.safetensors"])
    assert (found["path"], found["last_used"]) == (str(chat), "1970-01-01T00:16:42+00:00")
    assert (listed["org/base"]["chats"], listed["org/base"]["why_not"]) == (False, "base model")
    assert (listed["org/part"]["complete"], listed["org/part"]["path"]) == (False, str(part))


def test_an_adapter_is_listed_as_what_it_is(hub: Path, chatcli: Chatcli) -> None:
    put(hub, "org/style", {"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors("w")})
    row = chatcli("models").stdout.splitlines()[1]
    assert row.split("  ")[0] == "org/style"
    assert "LoRA adapter" in row and row.endswith("yes")


def test_to_list_a_model_is_not_to_use_it(hub: Path, chatcli: Chatcli) -> None:
    snapshot = put(hub, "org/chat")
    used(snapshot, 1000)
    for _ in range(2):
        assert json.loads(chatcli("models", "--json").stdout)[0]["last_used"] == "1970-01-01T00:16:40+00:00"


def test_what_was_found_out_is_not_found_out_again(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put(tmp_path / "hub", "org/chat")
    here = Places(tmp_path / "hub", tmp_path / "scope")
    first = known(inventory(here, print), environment)
    loaded: list[Path] = []
    monkeypatch.setattr(table, "load_table", lambda folder: loaded.append(folder) or table.shipped())
    assert known(inventory(here, print), environment) == first
    assert loaded == []
    (snapshot / "model.safetensors").resolve().unlink()
    assert known(inventory(here, print), environment)[0].facts.no_chat == "not whole"
    environment.config_folder.mkdir()
    (environment.config_folder / "adapters.toml").write_text('[mine]\nmatch = ["chat"]\ntemplate = "chatml.jinja"\n')
    known(inventory(here, print), environment)
    assert len(loaded) == 2, "a person's own rows may judge otherwise"
    (environment.state_folder / "models.json").write_text("{")
    assert len(known(inventory(here, print), environment)) == 1


@pytest.mark.parametrize(
    ("config", "weights", "precision", "parameters"),
    [
        ({}, safetensors("w"), "F32", 4096),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, safetensors("w"), "gptq 4 bit", 4096),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, safetensors("w"),
         "bitsandbytes 4 bit", 4096),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}},
         safetensors("w").replace(b'"F32"', b'"I32"'), "gptq 4 bit", 32768),
    ],
)  # fmt: skip
def test_precision_and_parameters(
    tmp_path: Path, environment: Environment, config: dict[str, object], weights: bytes, precision: str, parameters: int
) -> None:
    files = {**SMALL, "config.json": json.dumps({"model_type": "llama", **config}).encode()}
    put(tmp_path / "hub", "org/chat", {**files, "model.safetensors": weights})
    [found] = known(inventory(Places(tmp_path / "hub", tmp_path / "scope"), print), environment)
    assert (found.facts.precision, found.facts.parameters) == (precision, parameters)


def test_pytorch_files_tell_by_their_size(tmp_path: Path, environment: Environment) -> None:
    files = {name: content for name, content in SMALL.items() if name != "model.safetensors"}
    files |= {"config.json": b'{"model_type": "llama", "torch_dtype": "float16"}', "pytorch_model.bin": bytes(4000)}
    put(tmp_path / "hub", "org/chat", files)
    [found] = known(inventory(Places(tmp_path / "hub", tmp_path / "scope"), print), environment)
    assert (found.facts.precision, found.facts.parameters) == ("F16", 2000)


def test_folders_of_the_configuration_are_listed_and_found_by_name(tmp_path: Path, chatcli: Chatcli) -> None:
    mine = tmp_path / "own" / "my-llama"
    mine.parent.mkdir()
    mine.symlink_to(put(tmp_path / "elsewhere", "org/chat"))
    assert chatcli("config", "set", "model_folders", str(tmp_path / "own")).exit_code == 0
    assert [each["name"] for each in json.loads(chatcli("models", "--json").stdout)] == ["my-llama"]
    assert f"config.json of {mine}" in chatcli("adapters", "match", "my-llama").stdout
    refused = chatcli("models", "rm", "my-llama", "--yes")
    assert (refused.exit_code, "a folder of yours" in refused.stderr) == (2, True)
    gone = chatcli("models", CHATCLI_MODEL_FOLDERS=str(tmp_path / "gone"))
    assert (gone.exit_code, gone.stdout, gone.stderr.count("\n")) == (0, "", 1)
    assert "model_folders" in gone.stderr


def test_rm_frees_what_it_says(hub: Path, chatcli: Chatcli) -> None:
    snapshot = put(hub, "org/chat")
    asked = chatcli("models", "rm", "org/chat")
    assert asked.exit_code == 2 and "--yes" in asked.stderr
    assert snapshot.exists()
    done = chatcli("models", "rm", "org/chat", "--yes")
    assert (done.exit_code, done.stdout) == (0, "Removed: 16.6 kB.\n")
    assert str(snapshot.parent.parent) in done.stderr
    assert not snapshot.parent.parent.exists()
    again = chatcli("models", "rm", "org/chat", "--yes")
    assert (again.exit_code, again.stdout) == (3, "")


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_rm_asks_a_person(hub: Path, variables: dict[str, str], answer: str, code: int) -> None:
    snapshot = put(hub, "org/chat")
    shell = pexpect.spawn(sys.executable, ["-m", "chatcli", "models", "rm", "org/chat"], env=variables, timeout=None)
    shell.expect("16.6 kB")
    shell.expect(r"free 16.6 kB\? \[y/N\]")
    shell.sendline(answer)
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == code
    assert snapshot.exists() == (answer == "n")


def test_an_alias_is_made_followed_listed_and_taken_away(tmp_path: Path, hub: Path, chatcli: Chatcli) -> None:
    put(hub, "org/chat")
    file = tmp_path / "home" / "config" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("# mine\ntop_k = 5\n")
    assert chatcli("models", "alias", "small", "org/chat").exit_code == 0
    assert chatcli("models", "alias", "tiny", "small").exit_code == 0
    assert chatcli("models", "alias").stdout == "small  org/chat\ntiny   org/chat\n"
    assert chatcli("models", "alias", "tiny").stdout == "org/chat\n"
    assert "/models--org--chat/" in chatcli("adapters", "match", "small").stdout
    kept = chatcli("models", "rm", "small", "--yes")
    assert kept.exit_code == 2 and "alias --remove small" in kept.stderr
    assert chatcli("models", "alias", "--remove", "small").exit_code == 0
    assert chatcli("models", "alias").stdout == "tiny  org/chat\n"
    assert "# mine" in file.read_text() and "top_k = 5" in file.read_text()
    wrong = chatcli("models", "alias", "--remove", "small")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("arguments", [("guide", "x"), ("a b", "x"), ("none",), ("--remove",)])
def test_an_alias_that_cannot_be(chatcli: Chatcli, arguments: tuple[str, ...]) -> None:
    ran = chatcli("models", "alias", *arguments)
    assert (ran.exit_code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)


def test_a_person_with_no_model_is_told_what_to_do(variables: dict[str, str]) -> None:
    shell = pexpect.spawn(sys.executable, ["-m", "chatcli", "models"], env=variables, timeout=None, encoding="utf-8")
    shell.expect("no model on this machine yet: `chatcli pull")
    shell.expect(pexpect.EOF)


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_the_list_keeps_within_the_window(hub: Path, variables: dict[str, str], columns: int) -> None:
    names = ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "org/chat"]
    for name in names:
        put(hub, name)
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "chatcli", "models"],
        env=variables,
        dimensions=(24, columns),
        timeout=None,
        encoding="utf-8",
    )
    lines = shell.read().splitlines()
    assert all(len(line) <= columns or line in names for line in lines)
    assert {name for line in lines for name in names if name in line} == set(names)
    assert any("16.6 kB" in line for line in lines)


def test_one_file_of_a_repository_is_not_removed(hub: Path, chatcli: Chatcli) -> None:
    put(hub, "org/chat-GGUF", {"chat-Q4_K_M.gguf": b"GGUF"})
    ran = chatcli("models", "rm", "org/chat-GGUF:Q4_K_M", "--yes")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "models rm org/chat-GGUF removes all" in ran.stderr


def test_a_cache_that_cannot_be_read_is_told_and_the_rest_listed(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "hub").write_text("a file in the folder's place")
    told: list[str] = []
    assert inventory(Places(tmp_path / "hub", tmp_path / "scope"), told.append) == []
    assert len(told) == 1 and "cannot be read" in told[0]
    assert known([], replace(environment, stderr=io.StringIO())) == []
