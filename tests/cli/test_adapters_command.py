"""`chatcli adapters` and `chatcli models show` as a shell sees them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatcli.adapters.prompt import build
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message

Chatcli = Callable[..., subprocess.CompletedProcess[bytes]]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
QWEN3 = (Path(__file__).parent.parent / "golden" / "chat_templates" / "qwen3.jinja").read_text()


@pytest.fixture
def chatcli(tmp_path: Path) -> Chatcli:
    def run(*arguments: str, stdin: object = None, **variables: str) -> subprocess.CompletedProcess[bytes]:
        home = {
            "CHATCLI_HOME": str(tmp_path / "home"),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": "http://[::1]:9",
        }
        text = stdin if isinstance(stdin, str) else json.dumps(stdin)
        return subprocess.run(
            [sys.executable, "-m", "chatcli", *arguments],
            input=text.encode(),
            env={**os.environ, **home, **variables},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint without weights: all that a prompt needs."""
    folder = tmp_path / "Qwen3-tiny"
    folder.mkdir()
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 4096}
    tokenizer = {"eos_token": "<|im_end|>", "chat_template": QWEN3}
    generation = {"temperature": 0.6, "eos_token_id": [7, 9]}
    for name, value in (("config", config), ("tokenizer_config", tokenizer), ("generation_config", generation)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_the_list_has_every_row(chatcli: Chatcli) -> None:
    ran = chatcli("adapters")
    lines = ran.stdout.decode().splitlines()
    rows = sorted(shipped().rows, key=lambda row: row.name.lower())
    assert [line.split()[0] for line in lines] == [row.name for row in rows]
    starts = {line.index(row.template or "its checkpoints'") for line, row in zip(lines, rows, strict=True)}
    assert len(starts) == 1, "the templates stand below each other"
    listed = json.loads(chatcli("adapters", "--json").stdout)
    assert {row["name"]: row["template"] for row in listed} == {row.name: row.template for row in shipped().rows}


def test_a_row_is_shown_with_a_prompt(chatcli: Chatcli) -> None:
    shown = chatcli("adapters", "show", "Llama-3").stdout.decode()
    assert "meta-llama/Meta-Llama-3-8B-Instruct" in shown
    assert "Who are you?<|eot_id|>" in shown
    assert "temperature = 0.6" in shown
    said = json.loads(chatcli("adapters", "show", "llama-3", "--json").stdout)
    assert said["defaults"]["top_p"] == 0.9
    assert said["example_prompt"].endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_a_stop_texts_line_break_is_seen(chatcli: Chatcli) -> None:
    lines = chatcli("adapters", "show", "falcon").stdout.decode().splitlines()
    assert [line.split(None, 1)[1] for line in lines if line.startswith("stop ")] == ['"\\nUser:"']


def test_a_match_says_why_and_asks_nobody(chatcli: Chatcli, model: Path) -> None:
    shown = chatcli("adapters", "match", "lmsys/vicuna-7b-v1.5").stdout.decode()
    assert "vicuna*" in shown and "no config.json of it is on this machine" in shown
    said = json.loads(chatcli("adapters", "match", str(model), "--json").stdout)
    assert 'config.json says "qwen3"' in said["reason"]
    assert said["template"] == "the checkpoint's own, in tokenizer_config.json"
    letters = [candidate["letters"] for candidate in said["candidates"]]
    assert letters == sorted(letters, reverse=True) and letters
    base = json.loads(chatcli("adapters", "match", "meta-llama/Llama-3.1-8B", "--json").stdout)
    assert (base["row"], base["template"]) == ("llama-3", "none: a base model has no chat format")
    nothing = chatcli("adapters", "match", "someone/else")
    assert (nothing.returncode, json.loads(chatcli("adapters", "match", "x/y", "--json").stdout)["row"]) == (0, None)


def test_a_chatglm2_is_not_taken_for_the_first_chatglm(chatcli: Chatcli, tmp_path: Path) -> None:
    """Their config.json files give one model_type; what tells them apart is the rest of the files."""
    folder = tmp_path / "my-glm"
    folder.mkdir()
    said = {"model_type": "chatglm", "padded_vocab_size": 65024, "_name_or_path": "THUDM/chatglm2-6b"}
    (folder / "config.json").write_text(json.dumps(said))
    found = json.loads(chatcli("adapters", "match", str(folder), "--json").stdout)
    assert (found["row"], found["template"].split(",")[0]) == ("chatglm2", "chatglm2.jinja")
    assert found["judged_by"].endswith('says "chatglm", and its files that it is chatglm2')
    talk = {"messages": [{"role": "user", "content": "Hi"}]}
    assert chatcli("adapters", "render", str(folder), stdin=talk).stdout.decode() == "[Round 1]\n\n问：Hi\n\n答："


TALK = {"system": "Be brief.", "messages": [{"role": "user", "content": " 北京 </s> <b>\r\n "}]}


def test_a_prompt_is_printed_to_the_byte(chatcli: Chatcli) -> None:
    messages = (Message("system", "Be brief."), Message("user", " 北京 </s> <b>\r\n "))
    for row in ("llama-3", "chatml"):
        expected = build(shipped().row(row).template_text, Conversation(messages)).text
        assert chatcli("adapters", "render", row, stdin=TALK).stdout == expected.encode()


def test_the_last_role_decides_whether_the_model_is_to_speak(chatcli: Chatcli) -> None:
    asked = [{"role": "user", "content": "Hi"}]
    answered = [*asked, {"role": "assistant", "content": "Ho"}]
    assert chatcli("adapters", "render", "chatml", stdin={"messages": asked}).stdout.endswith(b"assistant\n")
    assert chatcli("adapters", "render", "chatml", stdin={"messages": answered}).stdout.endswith(b"Ho<|im_end|>\n")


def test_an_empty_system_message_is_not_the_default_one(chatcli: Chatcli) -> None:
    talk = {"messages": [{"role": "user", "content": "Hi"}]}
    prompts = [
        chatcli("adapters", "render", "vicuna_v1.1", stdin={**talk, "system": s}).stdout for s in (None, "", "S")
    ]
    assert prompts[0].startswith(b"A chat between") and prompts[2] == b"S USER: Hi ASSISTANT:"
    assert b"A chat" not in prompts[1] and prompts[1].endswith(b"USER: Hi ASSISTANT:")
    assert (
        chatcli("adapters", "render", "vicuna_v1.1", stdin={"messages": []}).stdout == prompts[0].partition(b"USER")[0]
    )


def test_a_model_renders_by_its_own_template(chatcli: Chatcli, model: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    given = {"messages": [{"role": "user", "content": "Hi"}], "tools": tools, "think": False}
    prompt = chatcli("adapters", "render", "./Qwen3-tiny", stdin=given).stdout.decode()
    assert '<tools>\n{"type": "function", "function": {"name": "f"}}\n</tools>' in prompt
    assert prompt.endswith("assistant\n<think>\n\n</think>\n\n")


def test_calls_and_results_are_rendered_where_the_format_has_no_place_for_them(chatcli: Chatcli) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]
    given = {"messages": said, "tools": [{"type": "function", "function": {"name": "f"}}]}
    prompt = chatcli("adapters", "render", "qwen3", stdin=given).stdout.decode()
    assert prompt.endswith(
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.startswith("<|im_start|>system\n# Tools\n\n")


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": "x", "content": "y"}]},
        "", "{", "[]", "null", "[" * 100_000, "{}", {"messages": "hi"}, {"messages": [3]},
        {"messages": [{"role": "boss", "content": "x"}]}, {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [{"role": "user"}]}, {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]}, {"sytem": "x", **TALK}, {**TALK, "system": 3},
        {**TALK, "tools": "x"}, {**TALK, "think": "perhaps"}, {**TALK, "reasoning_effort": "much"},
        {"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]},
    ],
    ids=lambda given: json.dumps(given)[:40],
)  # fmt: skip
def test_what_is_no_conversation_is_one_sentence(chatcli: Chatcli, given: object) -> None:
    ran = chatcli("adapters", "render", "chatml", stdin=given)
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (2, b"", 1)
    assert b"defect" not in ran.stderr


@pytest.mark.parametrize("command", ["show", "render"])
def test_an_unknown_row_is_one_sentence_with_the_nearest(chatcli: Chatcli, command: str) -> None:
    ran = chatcli("adapters", command, "vicunna", stdin=TALK)
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (2, b"", 1)
    assert b"did you mean vicuna" in ran.stderr


def settings_of(ran: subprocess.CompletedProcess[bytes]) -> dict[str, tuple[object, str]]:
    said = json.loads(ran.stdout)["settings"]
    return {key: (each["value"], each["origin"]) for key, each in said.items()}


def test_every_setting_of_a_model_has_its_value_and_origin(chatcli: Chatcli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "config").mkdir(parents=True)
    (tmp_path / "home" / "config" / "config.toml").write_text("top_k = 5\nmax_tokens = 64\n")
    (tmp_path / "home" / "config" / "adapters.toml").write_text(
        '[mine]\nmatch = ["qwen3-tiny"]\ntemplate = "chatml.jinja"\ndefaults = { min_p = 0.1, temperature = 2.0 }\n'
    )
    said = settings_of(chatcli("models", "show", str(model), "--json", CHATCLI_THINK="no"))
    assert said["top_k"] == (5, "config.toml")
    assert said["max_tokens"] == (64, "config.toml")
    assert said["think"] == (False, "CHATCLI_THINK")
    assert said["temperature"] == (0.6, "generation_config.json")
    assert said["min_p"] == (0.1, "the row mine")
    assert said["top_p"] == (1.0, "chatcli's default")
    assert said["seed"] == (None, "")


def test_a_model_is_shown_without_its_weights(chatcli: Chatcli, model: Path, tmp_path: Path) -> None:
    facts = json.loads(chatcli("models", "show", str(model), "--json").stdout)
    assert facts["architecture"] == "Qwen3ForCausalLM"
    assert facts["context"] == 4096
    assert facts["stop_ids"] == {"7": "", "9": ""}
    assert facts["thinking"] == ["enable_thinking"]
    assert "holds no weights" in facts["weights"]
    cached = tmp_path / "hf" / "hub" / "models--org--Qwen3-tiny"
    shutil.copytree(model, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    facts = json.loads(chatcli("models", "show", "org/Qwen3-tiny", "--json").stdout)
    assert facts["revision"] == COMMIT


def test_the_guide_is_shown_in_columns(chatcli: Chatcli) -> None:
    lines = chatcli("models", "show", "guide").stdout.decode().splitlines()
    assert any(line.split()[:3] == ["stop", "ids", "2"] for line in lines)
    settings = lines[lines.index("") + 1 :]
    assert len({line.index(line.split(None, 1)[1]) for line in settings}) == 1


def test_a_base_model_and_a_missing_one(chatcli: Chatcli, model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{}")
    base = model.rename(model.with_name("base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    assert "base model" in json.loads(chatcli("models", "show", str(base), "--json").stdout)["template"]
    missing = chatcli("models", "show", "Qwen/Qwen3-06B")
    assert (missing.returncode, missing.stderr.count(b"\n")) == (3, 1)
    assert b"Did you mean Qwen/Qwen3-0.6B" in missing.stderr
