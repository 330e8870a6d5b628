"""A stored reply said again: the same under its seed and settings, and where it differs."""

from __future__ import annotations

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
