"""GGUF files and adapters from the command line: named, shown, remembered, said again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import write_gguf
from typer.testing import CliRunner, Result

from chatcli.cli.main import app

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chatcli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def model(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return write_gguf(folder / "tiny-Q8_0.gguf", tiny_llama, "llama", "Q8_0", template=TEMPLATE)


@pytest.fixture(scope="module")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    folder = tmp_path_factory.mktemp("style")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), config).save_pretrained(folder)
    return folder


ASK = ("--temperature", "0", "--max-tokens", "12")


@pytest.mark.slow
def test_a_gguf_file_answers(model: Path) -> None:
    """The whole way in a process of its own; the same greedy answer by file, by folder and in this process."""
    ran = subprocess.run(
        [sys.executable, "-m", "chatcli", "ask", "-m", str(model), *ASK, "Hello"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.strip()
    assert chatcli("ask", "-m", str(model.parent), *ASK, "Hello").stdout == ran.stdout


def test_what_a_gguf_file_is_is_shown_without_loading_it(model: Path) -> None:
    said = json.loads(chatcli("models", "show", str(model), "--json").stdout)
    assert said["file"] == "tiny-Q8_0.gguf"
    assert said["architecture"] == "LlamaForCausalLM"
    assert said["context"] == 512
    assert said["weights"]["format"] == "gguf"
    assert said["weights"]["precision"] == "Q8_0"
    assert said["template"] == "the checkpoint's own, in the GGUF file"
    assert said["stop_ids"] == {"2": "<|im_end|>"}


def test_showing_a_gguf_file_imports_nothing_heavy(model: Path) -> None:
    code = (
        "import sys; sys.argv = ['chatcli', 'models', 'show', sys.argv[1]]; import os; os._exit = sys.exit\n"
        "from chatcli.__main__ import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'numpy', 'gguf', 'peft'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "[]"
    assert "LlamaForCausalLM" in ran.stdout


def test_a_model_with_adapters_is_remembered_with_them(tiny_llama: Path, adapter: Path) -> None:
    plain = chatcli("ask", "-m", str(tiny_llama), *ASK, "--no-history", "Hello").stdout
    worn = chatcli("ask", "-m", str(tiny_llama), "--lora", f"{adapter}=2", *ASK, "Hello")
    assert worn.exit_code == 0
    assert worn.stdout != plain
    assert chatcli("ask", "--continue", *ASK, "And now?").exit_code == 0
    name = f"{tiny_llama} + {adapter}=2"
    stored = json.loads(chatcli("history", "export", "@1", "--format", "json").stdout)
    assert {each.get("model") for each in stored["messages"]} - {None} == {name}
    again = chatcli("replay", "@1")
    assert "the reply is the same" in again.stderr
    assert chatcli("ask", "-m", name, *ASK, "Hello").stdout == worn.stdout
    assert json.loads(chatcli("models", "show", name, "--json").stdout)["loras"] == [f"{adapter}, scale 2"]


def test_an_adapters_folder_is_a_model(tiny_llama: Path, adapter: Path) -> None:
    worn = chatcli("ask", "-m", str(tiny_llama), "--lora", str(adapter), *ASK, "Hello").stdout
    alone = chatcli("ask", "-m", str(adapter), *ASK, "--json", "Hello")
    said = json.loads(alone.stdout)
    assert said["text"] == worn.rstrip("\n")
    assert said["model"] == str(adapter)


def test_a_folder_within_is_part_of_the_name(tiny_llama: Path) -> None:
    said = chatcli("ask", "-m", str(tiny_llama.parent), "--subfolder", tiny_llama.name, *ASK, "--json", "Hello")
    assert json.loads(said.stdout)["model"] == str(tiny_llama)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-m", "./nothing.gguf"), "There is no file"),
        (("-m", "{llama}", "--subfolder", "nothing"), "There is no folder"),
        (("-m", "{llama}", "--lora", "{llama}"), "no LoRA adapter"),
        (("-m", "{llama}", "--lora", "./nothing"), "There is no folder"),
    ],
)
def test_wrong_names_end_in_a_sentence(tiny_llama: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = chatcli("ask", *(each.format(llama=tiny_llama) for each in arguments), "Hello")
    assert ran.exit_code == 3
    assert says in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_folder_that_reads_like_a_model_and_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "C + D").mkdir()
    shown = chatcli("models", "show", str(tmp_path / "C + D"))
    assert shown.exit_code == 2
    assert "stands for an adapter: rename the folder" in shown.stderr
