"""The small commands as a shell sees them: history, config, tokens."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.session import Session

Chatcli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def chatcli(home: Path, tmp_path: Path) -> Chatcli:
    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chatcli", *arguments],
            input=stdin,
            env={
                **os.environ,
                "CHATCLI_HOME": str(home),
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_OFFLINE": "1",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            umask=0,
        )

    return run


def talk(home: Path, *questions: str, system: str = "") -> str:
    with closing(Store.open(home / "data" / "history.db")) as store:
        session = Session(ScriptedEngine(["An \x1b[31manswer."]), GenerationSettings(), store, system=system)
        for question in questions:
            list(session.say(question))
        return session.id


def test_history_lists_newest_first_and_shows_one_by_a_prefix(home: Path, chatcli: Chatcli) -> None:
    first = talk(home, "Where is Rome?", system="Be brief.")
    second = talk(home, "巴黎在哪里？", "And Oslo?")
    listed = chatcli("history").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [second, first]
    assert "巴黎在哪里？" in listed[0] and "scripted" in listed[0]
    assert len(chatcli("history", "-n", "1").stdout.splitlines()) == 1
    shown = chatcli("history", "show", first[:8]).stdout
    assert shown == "system: Be brief.\n\nyou: Where is Rome?\n\nscripted: An \ufffd[31manswer.\n\n"
    assert "And Oslo?" in chatcli("history", "show", "@1").stdout


def test_history_of_nothing_and_of_a_wrong_id(chatcli: Chatcli) -> None:
    assert (chatcli("history").stdout, chatcli("history").returncode) == ("", 0)
    ran = chatcli("history", "show", "nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "`chatcli history` lists them" in ran.stderr


def test_what_chatcli_keeps_is_readable_by_its_owner_alone(home: Path, chatcli: Chatcli) -> None:
    chatcli("history")
    kept = [home / "data", *(home / "data").iterdir()]
    assert len(kept) >= 2
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_setting_is_written_shown_and_overruled(chatcli: Chatcli, home: Path) -> None:
    assert chatcli("config", "set", "temperature", "0.3").returncode == 0
    assert chatcli("config", "set", "alias.small", "Qwen/Qwen3-0.6B").returncode == 0
    path, own_rows = map(Path, chatcli("config", "path").stdout.splitlines())
    assert own_rows == path.with_name("adapters.toml")
    assert path.is_relative_to(home) and "temperature = 0.3" in path.read_text()
    lines = {line.split()[0]: line.split()[1:] for line in chatcli("config", "show").stdout.splitlines()}
    assert lines["temperature"] == ["0.3", "config.toml"]
    assert lines["alias.small"] == ["Qwen/Qwen3-0.6B", "config.toml"]
    assert lines["top_p"][0] == "1.0"
    shown = chatcli("config", "show", CHATCLI_TEMPERATURE="0.9").stdout
    assert "CHATCLI_TEMPERATURE" in shown


@pytest.mark.parametrize(
    ("key", "value"), [("temprature", "1"), ("temperature", "hot"), ("top_p", "2"), ("alias.", "x")]
)
def test_a_wrong_setting_is_refused_and_nothing_is_written(chatcli: Chatcli, home: Path, key: str, value: str) -> None:
    ran = chatcli("config", "set", key, value)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert not (home / "config" / "config.toml").exists()


def test_a_broken_config_is_told_by_file_and_key(chatcli: Chatcli, home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text("top_k = 'many'\n")
    ran = chatcli("ask", "hi")
    assert ran.returncode == 2
    assert "config.toml: top_k" in ran.stderr


def test_tokens_of_a_text_and_of_the_prompt_it_becomes(chatcli: Chatcli, tiny_llama: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    text = "Hello 你好 <|im_end|>"
    plain = chatcli("tokens", "-m", str(tiny_llama), "--ids", "Hello there").stdout
    assert plain == " ".join(map(str, tokenizer.encode("Hello there", add_special_tokens=False))) + "\n"
    assert chatcli("tokens", "-m", str(tiny_llama), "Hello there").stdout == f"{len(plain.split())}\n"
    piped = chatcli("tokens", "-m", str(tiny_llama), stdin="Hello there").stdout
    assert piped == f"{len(plain.split())}\n"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello there"}], add_generation_prompt=True, return_dict=False
    )
    ids = chatcli("tokens", "-m", str(tiny_llama), "--chat", "--ids", "Hello there").stdout
    assert ids == " ".join(map(str, prompt)) + "\n"
    end = str(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert chatcli("tokens", "-m", str(tiny_llama), "--ids", text).stdout.split()[-1] == end
    assert chatcli("tokens", "-m", str(tiny_llama), "--chat", "--ids", text).stdout.split().count(end) == 1


def test_run_without_a_terminal_points_to_ask(chatcli: Chatcli) -> None:
    ran = chatcli("run", stdin="hello")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "chatcli ask" in ran.stderr
