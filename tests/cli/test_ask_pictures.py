"""`ask -a` from a shell: pictures by name and through a pipe, to a model that sees and to one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from seeing_models import picture

from chatcli.history.store import Store
from chatcli.images import image_of

Ask = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    (tmp_path / "photo.png").write_bytes(picture(40, 24))
    surroundings = {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "chatcli", "ask", "--max-tokens", "6", "--temperature", "0", *arguments]
        return subprocess.run(
            command, input=stdin, env=surroundings, cwd=tmp_path, capture_output=True, check=False, timeout=120
        )

    return run


@pytest.mark.slow
def test_a_picture_by_name_and_through_a_pipe_is_the_same_and_goes_on(
    ask: Ask, make_seeing_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model = str(make_seeing_checkpoint("qwen2_vl"))
    named = ask("-m", model, "-a", "photo.png", "What is this?")
    assert (named.returncode, named.stderr) == (0, b"")
    assert named.stdout.strip()
    piped = ask("-m", model, "-a", "-", "What is this?", stdin=picture(40, 24))
    assert piped.stdout == named.stdout
    (tmp_path / "photo.png").unlink()
    other = tmp_path / "other.jpg"
    other.write_bytes(picture(24, 24, form="JPEG"))
    further = ask("--continue", "--attach", str(other), "And this?")
    assert (further.returncode, further.stderr) == (0, b"")
    with closing(Store.open(tmp_path / "home" / "data" / "history.db")) as store:
        stored = store.load(store.find("@1"))
    assert stored.messages[0].attachments == (image_of(picture(40, 24), "standard input"),)
    assert stored.messages[2].attachments[0].media == "image/jpeg"


def test_a_model_that_does_not_see_says_so(ask: Ask, tiny_llama: Path) -> None:
    done = ask("-m", str(tiny_llama), "-a", "photo.png", "What is this?")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"reads text only: ask without it" in done.stderr.replace(b"\n", b" ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-a", "none.png", "x"), b"none.png cannot be read"),
        (("-a", "https://example.org/a.png", "x"), b"chatcli fetches no pictures"),
        (("-a", "-", "-f", "-", "x"), b"standard input is empty"),
        (("-a", "photo.png"), b"There is no question"),
        (("-f", "photo.png", "x"), b"photo.png is a picture, not text: -a shows it"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_a_model_loads(
    ask: Ask, arguments: tuple[str, ...], says: bytes
) -> None:
    done = ask("-m", "owner/nothing", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert says in done.stderr
