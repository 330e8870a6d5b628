"""A stored reply said again: the same under its seed and settings, and where it differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chatcli.cli.main import app
from chatcli.cli.replay import compared


def chatcli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_random_reply_comes_out_the_same_and_another_model_is_noticed(
    tiny_llama: Path, make_checkpoint: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path / "home"))
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    said = chatcli("ask", "-m", str(folder), "--temperature", "1.3", "--max-tokens", "12", "--system", "Hm.", "Hello")
    assert chatcli("ask", "--continue", "--top-k", "40", "--max-tokens", "9", "And now?").exit_code == 0
    again = chatcli("replay", "@1")
    assert "the reply is the same" in again.stderr
    assert again.exit_code == 0
    assert again.stdout and again.stdout != said.stdout

    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor.flip(0) for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    other = chatcli("replay", "@1")
    assert other.exit_code == 1
    assert "the reply differs from character" in other.stderr


def test_a_talk_without_a_reply_and_an_unknown_one_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path / "home"))
    assert chatcli("replay", "@1").exit_code == 2


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        ({"content": "Ctrl"}, 2, "which model"),
        ({"content": "Ctrl", "model": "guide", "settings": {"foo": 1}}, 2, "foo"),
        ({"content": "Ctrl", "model": "guide", "settings": {"temperature": "warm"}}, 2, "temperature cannot be"),
        ({"content": "Ctrl", "model": "guide", "settings": {"constraint": [1]}}, 2, "cannot be taken up"),
        # Broken off by a failure: so far as it went it is the same.
        ({"content": "`/exit`", "model": "guide", "settings": {"temperature": 0}, "finish_reason": "error"}, 0, "same"),
    ],
)
def test_what_was_imported_is_said_again_or_refused_in_a_sentence(
    reply: dict[str, object], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path / "home"))
    asked = {"role": "user", "content": "How do I leave?"}
    talk = json.dumps({"chatcli": 1, "messages": [asked, {"role": "assistant", **reply}]})
    assert CliRunner().invoke(app, ["history", "import", "-"], input=talk).exit_code == 0
    done = chatcli("replay", "@1")
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("before", "now", "cut", "said"),
    [
        (("", "abc"), ("", "abc"), False, ""),
        (("", "abc"), ("", "abd"), False, "character 3 of its text"),
        (("", "abc"), ("", "ab"), False, "character 3 of its text"),
        (("hm", "abc"), ("ha", "abc"), False, "character 2 of its reasoning"),
        (("", "ab"), ("", "abc"), True, ""),
        (("", "ab"), ("", "ac"), True, "character 2 of its text"),
    ],
)
def test_where_replies_differ(before: tuple[str, str], now: tuple[str, str], cut: bool, said: str) -> None:
    assert said in compared(before, now, cut=cut)
    assert bool(compared(before, now, cut=cut)) == bool(said)
