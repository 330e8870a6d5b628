"""`ask -a`: pictures by name and through a pipe, to a model that sees and to one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from seeing_models import picture
from typer.testing import CliRunner, Result

from chatcli.cli.main import app
from chatcli.history.store import Store
from chatcli.images import image_of

Ask = Callable[..., Result]
FEW = ("ask", "--max-tokens", "6", "--temperature", "0")


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "photo.png").write_bytes(picture(40, 24))
    monkeypatch.chdir(tmp_path)
    return {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def ask(surroundings: dict[str, str]) -> Ask:
    """The command in this process, which has imported torch already."""

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        return CliRunner(env=surroundings).invoke(app, [*FEW, *arguments], input=stdin)

    return run


@pytest.mark.slow
def test_a_picture_by_name_and_through_a_pipe_is_the_same_and_goes_on(
    ask: Ask, surroundings: dict[str, str], make_seeing_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The pipe is a real one, to a process of its own."""
    model = str(make_seeing_checkpoint("qwen2_vl"))
    named = ask("-m", model, "-a", "photo.png", "What is this?")
    assert (named.exit_code, named.stderr) == (0, "")
    assert named.stdout.strip()
    command = [sys.executable, "-m", "chatcli", *FEW, "-m", model, "-a", "-", "What is this?"]
    piped = subprocess.run(command, input=picture(40, 24), env=surroundings, capture_output=True, check=False)
    assert (piped.stdout, piped.stderr) == (named.stdout_bytes, b"")
    (tmp_path / "photo.png").unlink()
    other = tmp_path / "other.jpg"
    other.write_bytes(picture(24, 24, form="JPEG"))
    further = ask("--continue", "--attach", str(other), "And this?")
    assert (further.exit_code, further.stderr) == (0, "")
    with closing(Store.open(tmp_path / "home" / "data" / "history.db")) as store:
        stored = store.load(store.find("@1"))
    assert stored.messages[0].attachments == (image_of(picture(40, 24), "standard input"),)
    assert stored.messages[2].attachments[0].media == "image/jpeg"


def test_a_model_that_does_not_see_says_so(ask: Ask, tiny_llama: Path) -> None:
    done = ask("-m", str(tiny_llama), "-a", "photo.png", "What is this?")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "reads text only: ask without it" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-a", "none.png", "x"), "none.png cannot be read"),
        (("-a", "https://example.org/a.png", "x"), "chatcli fetches no pictures"),
        (("-a", "-", "-f", "-", "x"), "standard input is empty"),
        (("-a", "photo.png"), "There is no question"),
        (("-f", "photo.png", "x"), "photo.png is a picture, not text: -a shows it"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_a_model_loads(ask: Ask, arguments: tuple[str, ...], says: str) -> None:
    done = ask("-m", "owner/nothing", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
