"""`ask` as a shell sees it: real processes, real pipes, real signals.

Where it does not matter who answers, a server does: a process that imports torch takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faulty_server import FaultyServer, endless, serving
from typer.testing import CliRunner, Result
from waiting import until

from chatcli.cli.main import app
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


def ask(surroundings: dict[str, str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*ASK, *arguments], input=stdin, env=surroundings, capture_output=True, check=False)


def ask_here(surroundings: dict[str, str], *arguments: str, stdin: bytes = b"") -> Result:
    """The same within this process, which has imported torch already."""
    return CliRunner(env=surroundings).invoke(app, ["ask", *arguments], input=stdin)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """One that says "Yes." to everything."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def endless_model(make_checkpoint: Callable[..., Path]) -> Path:
    """A model that goes on for as long as its large context lasts."""
    return make_checkpoint(seed=1, max_position_embeddings=20_000, eos_token_id=None)


def test_the_answer_and_nothing_else_is_on_stdout(surroundings: dict[str, str], tiny_llama: Path) -> None:
    arguments = ("-m", str(tiny_llama), "--temperature", "0", "--max-tokens", "8", "Hello there")
    done = ask(surroundings, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\n") and done.stdout.strip()
    assert b"\x1b" not in done.stdout
    assert done.stdout == ask_here(surroundings, *arguments).stdout_bytes


def test_piped_input_comes_first_then_a_blank_line_then_the_prompt(
    surroundings: dict[str, str], server: FaultyServer
) -> None:
    to = ("--server", server.url)
    ask(surroundings, *to, "write", "the message", stdin=b"+ a line\n")
    ask(surroundings, *to, stdin="只有输入\n".encode())
    ask(surroundings, *to, "-", stdin=b"from a dash\n")
    ask(surroundings, *to, "bad bytes", stdin=b"caf\xe9\n")
    assert [text for role, text in messages(surroundings) if role == "user"] == [
        "+ a line\n\nwrite the message",
        "只有输入",
        "from a dash",
        "caf\ufffd\n\nbad bytes",
    ]


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


def test_a_closed_pipe_ends_quietly_and_stops_the_answer(surroundings: dict[str, str]) -> None:
    with serving(endless) as talking:
        asking = subprocess.Popen(
            [*ASK, "--server", talking.url, "go on"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert asking.stdout and asking.stderr
        assert asking.stdout.read(1)
        asking.stdout.close()
        assert asking.wait() == 141
        assert asking.stderr.read() == b""
        asking.stderr.close()
        assert talking.left.wait()


def test_ctrl_c_in_a_reply_keeps_what_was_shown_and_ends_a_shells_loop_too(
    surroundings: dict[str, str], endless_model: Path
) -> None:
    """A shell shows 130 and breaks off its loop only where a command has died of the signal."""
    asking = subprocess.Popen([*ASK, "-m", str(endless_model), "go on"], env=surroundings, stdout=subprocess.PIPE)
    assert asking.stdout
    shown = asking.stdout.read(20)
    asking.send_signal(signal.SIGINT)
    shown += asking.stdout.read()
    asking.stdout.close()
    assert asking.wait() == -signal.SIGINT
    assert messages(surroundings) == [("user", "go on"), ("assistant", shown.decode().removesuffix("\n"))]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what another process has in memory")
@pytest.mark.parametrize("file", ["history.db", "libtorch_cpu.so", "_safetensors_rust"])
def test_ctrl_c_before_the_reply_leaves_no_trace(surroundings: dict[str, str], endless_model: Path, file: str) -> None:
    """While the history is opened, while torch is imported, while the weights are read."""
    asking = subprocess.Popen(
        [*ASK, "-m", str(endless_model), "go on"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    memory = Path(f"/proc/{asking.pid}/maps")
    until(lambda: file in memory.read_text())
    asking.send_signal(signal.SIGINT)
    _, complaints = asking.communicate()
    assert (asking.returncode, complaints) == (-signal.SIGINT, b"")


def test_kill_9_in_a_reply_loses_at_most_the_last_tenth_of_a_second(surroundings: dict[str, str]) -> None:
    with serving(endless) as talking:
        command = [*ASK, "--server", talking.url, "go on"]
        asking = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE)
        assert asking.stdout
        shown = asking.stdout.read(100)
        time.sleep(0.3)  # what was read above is now older than 100 ms
        asking.kill()
        asking.wait()
        asking.stdout.close()
    stored = messages(surroundings)
    assert stored[0] == ("user", "go on")
    assert stored[1][1].encode().startswith(shown)


def test_a_full_disk_for_stdout_is_said(surroundings: dict[str, str], server: FaultyServer) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*ASK, "--server", server.url, "hi"], env=surroundings, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ran.returncode == 5
    assert ran.stderr == b"chatcli: The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "x" * 300, "a\\0b"])
def test_odd_names_are_no_defect(surroundings: dict[str, str], name: str) -> None:
    ran = ask(surroundings, "-m", name, "hi")
    assert ran.returncode == 3
    assert ran.stderr.count(b"\n") == 1


def test_closed_streams_are_no_defect(surroundings: dict[str, str], tiny_llama: Path, server: FaultyServer) -> None:
    """Once with a model of one's own: what it opens must not take the numbers of the streams."""
    line = f"{sys.executable} -m chatcli ask hi"
    answers = [f"{line} --server {server.url} {closed}" for closed in ("<&-", ">&-", "2>&-")]
    for each in (*answers, f"{line} -m {tiny_llama} --max-tokens 2 <&- >&- 2>&-"):
        ran = subprocess.run(["bash", "-c", each], env=surroundings, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, b""), each
    assert [role for role, _ in messages(surroundings)] == ["user", "assistant"] * 4


def test_a_quantized_model_answers_and_says_what_it_takes(surroundings: dict[str, str], tiny_llama: Path) -> None:
    few = ("-m", str(tiny_llama), "--temperature", "0", "--max-tokens", "8")
    first = ask_here(surroundings, *few, "--quant", "int8", "Hello there")
    assert first.exit_code == 0
    assert len(first.stdout) > 1
    refused = ask_here(surroundings, *few, "--device", "cpu", "--quant", "fp8", "Hello there")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "does not compute fp8" in refused.stderr


def test_a_format_without_its_package_is_one_sentence(surroundings: dict[str, str], tiny_llama: Path) -> None:
    folder = Path(surroundings["CHATCLI_HOME"]).parent / "packed"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "vptq"}}))
    ran = ask(surroundings, "-m", str(folder), "Hello there")
    assert ran.returncode == 3
    assert ran.stderr.count(b"\n") == 1
    assert b'pip install "vptq"' in ran.stderr
