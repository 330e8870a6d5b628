"""`ask` as a shell sees it: real processes, real pipes, real signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.history.store import Store

ASK = [sys.executable, "-m", "chatcli", "ask"]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment of one's own, without a Hub."""
    return {
        **os.environ,
        "CHATCLI_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
    }


def ask(
    surroundings: dict[str, str], *arguments: str, stdin: bytes = b"", timeout: float = 120
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*ASK, *arguments], input=stdin, env=surroundings, capture_output=True, check=False, timeout=timeout
    )


@pytest.fixture(scope="module")
def endless(make_checkpoint: Callable[..., Path]) -> Path:
    """A model that goes on for as long as its large context lasts."""
    return make_checkpoint(seed=1, max_position_embeddings=20_000, eos_token_id=None)


def test_the_answer_and_nothing_else_is_on_stdout(surroundings: dict[str, str], tiny_llama: Path) -> None:
    arguments = ("-m", str(tiny_llama), "--temperature", "0", "--max-tokens", "8", "Hello there")
    first, second = ask(surroundings, *arguments), ask(surroundings, *arguments)
    assert first.returncode == 0
    assert first.stderr == b""
    assert first.stdout == second.stdout
    assert first.stdout.endswith(b"\n") and first.stdout.strip()
    assert b"\x1b" not in first.stdout


def test_piped_input_comes_first_then_a_blank_line_then_the_prompt(
    surroundings: dict[str, str], tiny_llama: Path
) -> None:
    """The database tells what was asked."""
    few = ("-m", str(tiny_llama), "--max-tokens", "1")
    ask(surroundings, *few, "write", "the message", stdin=b"+ a line\n")
    ask(surroundings, *few, stdin="只有输入\n".encode())
    ask(surroundings, *few, "-", stdin=b"from a dash\n")
    ask(surroundings, *few, "bad bytes", stdin=b"caf\xe9\n")
    assert questions(surroundings) == [
        "+ a line\n\nwrite the message",
        "只有输入",
        "from a dash",
        "caf\ufffd\n\nbad bytes",
    ]


def questions(surroundings: dict[str, str]) -> list[str]:
    return [text for role, text in messages(surroundings) if role == "user"]


def messages(surroundings: dict[str, str]) -> list[tuple[str, str]]:
    """All conversations, the oldest first, as `history show` would read them."""
    with closing(Store.open_to_read(Path(surroundings["CHATCLI_HOME"]) / "data" / "history.db")) as store:
        talks = [store.load(each.id) for each in reversed(store.recent(100))]
        return [(message.role, message.text) for talk in talks for message in talk.messages]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ((), b"", 2, "no question"),
        (("--top-p", "5", "hi"), b"", 2, "top_p cannot be 5"),
        (("--max-tokens", "-1", "hi"), b"", 2, "max_tokens"),
        (("--nonsense", "hi"), b"", 2, "--nonsense"),
        (("read this",), b"a\0b", 2, "binary"),
        (("-m", "/no/such/folder", "hi"), b"", 3, "/no/such/folder"),
        (("-m", "nobody/nothing", "hi"), b"", 3, "nobody/nothing"),
        (("-m", "not a name", "hi"), b"", 3, "not a name"),
    ],
)
def test_errors_are_one_sentence_with_the_documented_code(
    surroundings: dict[str, str], arguments: tuple[str, ...], stdin: bytes, code: int, says: str
) -> None:
    ran = ask(surroundings, *arguments, stdin=stdin)
    assert ran.returncode == code
    assert ran.stdout == b""
    assert says in ran.stderr.decode()
    assert "Traceback" not in ran.stderr.decode()


def test_debug_shows_the_traceback_wherever_it_stands(surroundings: dict[str, str]) -> None:
    ran = ask(surroundings, "-m", "/no/such/folder", "hi", "--debug")
    assert ran.returncode == 3
    assert b"Traceback" in ran.stderr


def test_a_question_longer_than_the_context_is_refused_with_the_counts(
    surroundings: dict[str, str], tiny_llama: Path
) -> None:
    ran = ask(surroundings, "-m", str(tiny_llama), stdin=b"many words " * 500)
    assert ran.returncode == 2
    assert "512" in ran.stderr.decode()


def test_a_closed_pipe_ends_quietly_and_stops_the_model(surroundings: dict[str, str], endless: Path) -> None:
    asking = subprocess.Popen(
        [*ASK, "-m", str(endless), "go on"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asking.stdout and asking.stderr
    assert asking.stdout.read(1)
    asking.stdout.close()
    assert asking.wait(60) == 141
    assert asking.stderr.read() == b""
    asking.stderr.close()


def test_ctrl_c_in_a_reply_keeps_what_was_shown_and_ends_a_shells_loop_too(
    surroundings: dict[str, str], endless: Path
) -> None:
    """A shell shows 130 and breaks off its loop only where a command has died of the signal."""
    asking = subprocess.Popen([*ASK, "-m", str(endless), "go on"], env=surroundings, stdout=subprocess.PIPE)
    assert asking.stdout
    shown = asking.stdout.read(20)
    asking.send_signal(signal.SIGINT)
    shown += asking.stdout.read()
    asking.stdout.close()
    assert asking.wait(60) == -signal.SIGINT
    assert messages(surroundings) == [("user", "go on"), ("assistant", shown.decode().removesuffix("\n"))]


@pytest.mark.parametrize("after", [0.3, 0.6, 1.0, 2.0])
def test_ctrl_c_before_the_reply_leaves_no_trace(surroundings: dict[str, str], endless: Path, after: float) -> None:
    asking = subprocess.Popen(
        [*ASK, "-m", str(endless), "go on"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(after)
    asking.send_signal(signal.SIGINT)
    _, complaints = asking.communicate(timeout=60)
    assert (asking.returncode, complaints) == (-signal.SIGINT, b"")


def test_kill_9_in_a_reply_loses_at_most_the_last_tenth_of_a_second(
    surroundings: dict[str, str], endless: Path
) -> None:
    asking = subprocess.Popen([*ASK, "-m", str(endless), "go on"], env=surroundings, stdout=subprocess.PIPE)
    assert asking.stdout
    shown = asking.stdout.read(1000)
    time.sleep(0.3)  # what was read above is now older than 100 ms
    asking.kill()
    asking.wait(60)
    asking.stdout.close()
    stored = messages(surroundings)
    assert stored[0] == ("user", "go on")
    assert stored[1][1].encode().startswith(shown[:-4])


def test_a_full_disk_for_stdout_is_said(surroundings: dict[str, str], tiny_llama: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*ASK, "-m", str(tiny_llama), "--max-tokens", "4", "hi"],
            env=surroundings,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 5
    assert ran.stderr == b"chatcli: The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "x" * 300, "a\\0b"])
def test_odd_names_are_no_defect(surroundings: dict[str, str], name: str) -> None:
    ran = ask(surroundings, "-m", name, "hi")
    assert ran.returncode == 3
    assert ran.stderr.count(b"\n") == 1


def test_closed_streams_are_no_defect(surroundings: dict[str, str], tiny_llama: Path) -> None:
    line = f"{sys.executable} -m chatcli ask -m {tiny_llama} --max-tokens 2 hi"
    for closing_streams in ("<&-", ">&-", "2>&-"):
        ran = subprocess.run(
            ["bash", "-c", f"{line} {closing_streams}"], env=surroundings, capture_output=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, b""), closing_streams


@pytest.mark.slow
def test_a_quantized_model_answers_and_says_what_it_takes(surroundings: dict[str, str], tiny_llama: Path) -> None:
    few = ("-m", str(tiny_llama), "--temperature", "0", "--max-tokens", "8")
    first = ask(surroundings, *few, "--quant", "int8", "Hello there")
    assert first.returncode == 0
    assert len(first.stdout) > 1
    refused = ask(surroundings, *few, "--device", "cpu", "--quant", "fp8", "Hello there")
    assert refused.returncode == 2
    assert refused.stdout == b""
    assert b"does not compute fp8" in refused.stderr


def test_a_format_without_its_package_is_one_sentence(surroundings: dict[str, str], tiny_llama: Path) -> None:
    folder = Path(surroundings["CHATCLI_HOME"]).parent / "packed"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "vptq"}}))
    ran = ask(surroundings, "-m", str(folder), "Hello there")
    assert ran.returncode == 3
    assert ran.stderr.count(b"\n") == 1
    assert b'pip install "vptq"' in ran.stderr
