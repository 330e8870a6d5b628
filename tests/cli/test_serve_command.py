"""`chatcli serve` as a process: what it says, what it refuses, how it ends; and every example of its page."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from api_server import serving, soon

PAGE = (Path(__file__).parent.parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")
LONG = {"model": "guide", "messages": [{"role": "user", "content": "Hello"}], "temperature": 1, "stream": True}


def variables(home: Path, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "CHATCLI_HOME": str(home), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": path, **more}


@contextmanager
def server(home: Path, *arguments: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and the address that it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chatcli", "serve", *arguments],
        env=variables(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        said = process.stdout.readline()
        found = re.fullmatch(r"Serving guide at (\S+)/v1; Ctrl-C ends it.\n", said)
        yield process, found[1] if found else said
    finally:
        process.kill()
        process.communicate()


def refused(home: Path, *arguments: str, **more: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "chatcli", "serve", *arguments],
        env=variables(home, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, said = refused(tmp_path, "--port", port)
    assert code == 2 and said.startswith(f"chatcli: Port {port} of 127.0.0.1 is in use") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--host", "0.0.0.0", "--port", "0"], 2, "give a key with --api-key-file"),
        (["--api-key-file", "no-such-file"], 2, "cannot be read"),
        (["--api-key", "two words"], 2, "no client could send it"),
        (["--time-limit", "soon"], 2, "--time-limit soon is no time"),
        (["--time-limit", "0"], 2, "--time-limit 0 is no time"),
        (["/tmp", "/tmp/../tmp", "--port", "0"], 2, "would both be served as tmp"),
        (["tiny @ localhost:1"], 2, "is a model of the server localhost:1"),
        (["guide", "other", "--lora", "a"], 2, "--lora is of one model"),
        (["no/such-model-anywhere", "--port", "0"], 3, "no/such-model-anywhere"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    found, said = refused(tmp_path, *arguments)
    assert found == code and sentence in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("uvicorn", [], 'pip install "chatcli[serve]"'), ("ray", ["--replicas", "2"], "pip install 'chatcli[ray]'")],
)
def test_missing_packages_are_named(tmp_path: Path, missing: str, arguments: list[str], extra: str) -> None:
    """A finder that does not know one stands in for an installation without the extra."""
    program = (
        "import sys, importlib.machinery as m\n"
        "missing = sys.argv.pop(1)\n"
        "class Blind(m.PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, *rest):\n"
        "        return None if name == missing else super().find_spec(name, *rest)\n"
        "sys.meta_path[:] = [Blind if each is m.PathFinder else each for each in sys.meta_path]\n"
        "from chatcli.__main__ import main\n"
        "main()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, missing, "serve", "--port", "0", *arguments],
        env=variables(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2 and extra in ran.stderr


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


LINES = [
    re.sub(r"\s+# .*", "", line) for block in examples("sh") for line in block.replace("\\\n", "").splitlines() if line
]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The guide, served to the page's examples: an address and a folder with the socket api.sock."""
    from chatcli import guide
    from chatcli.adapters.table import shipped
    from chatcli.engines.concurrent import ConcurrentEngine
    from chatcli.engines.local import open_local
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.server.api.guard import Guard
    from chatcli.server.api.listening import bind_unix

    place = tmp_path_factory.mktemp("page")
    served = ConcurrentEngine(open_local(open_checkpoint(guide.folder(), guide.NAME), shipped(), lambda _: None))
    over_socket = serving({guide.NAME: served}, Guard((), None), listener=bind_unix(place / "api.sock"))
    with serving({guide.NAME: served}) as address, over_socket:
        yield address, place
    served.close()


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl")])
def test_the_request_is_answered(line: str, guide: tuple[str, Path]) -> None:
    address, place = guide
    command = line.replace("curl ", "curl --silent --show-error --fail ").replace("http://127.0.0.1:8000", address)
    ran = subprocess.run(command, shell=True, cwd=place, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(("{", "data: {", "# HELP"))


@pytest.mark.parametrize("program", examples("python"))
def test_the_program_runs(
    program: str, guide: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, place = guide
    monkeypatch.chdir(place)
    exec(program.replace("http://127.0.0.1:8000", address), {})
    assert capsys.readouterr().out.strip()


def example(part: str) -> list[str]:
    """The arguments of the page's one line with `part` in it, which must be there."""
    line = next(line for line in LINES if line.startswith("chatcli serve") and part in line)
    return line.split()[2:]


@pytest.mark.slow
def test_a_signal_drains(tmp_path: Path) -> None:
    assert LINES[0] == "chatcli serve"
    with server(tmp_path, "--port", "0") as (process, address):
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=LONG, timeout=None) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            told = [line for line in lines if line]
        assert told[-1] == "data: [DONE]"  # what was under way is finished
        assert process.wait() == 0
        assert process.stderr and "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_a_second_signal_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    endless = make_checkpoint(max_position_embeddings=100_000, eos_token_id=None)
    with server(tmp_path, str(endless), *example("--socket")) as (process, said):
        assert said == f"Serving {endless.name} at the socket api.sock; Ctrl-C ends it.\n"
        client = httpx.Client(transport=httpx.HTTPTransport(uds="api.sock"), timeout=None)
        asked = {**LONG, "model": endless.name}
        with client.stream("POST", "http://localhost/v1/chat/completions", json=asked) as answer:
            next(answer.iter_lines())
            process.send_signal(signal.SIGINT)
            assert process.stderr and "answers under way (1)" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait() == -signal.SIGINT
        assert process.stderr.read() == "" and not Path("api.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_loads_leaves_no_socket(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "chatcli", "serve", "--socket", str(path)],
        env=variables(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert soon(path.exists)  # before the model is loaded
    process.send_signal(number)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 128 + number and not path.exists()


@pytest.mark.slow
def test_other_machines_need_a_key_and_a_terminal_that_is_closed_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = tmp_path / "keys.txt"
    keys.write_text("a-key\n\nanother-key\n")
    keys.chmod(0o644)
    arguments = example("--api-key-file")
    arguments[arguments.index("0.0.0.0")] = "127.0.0.1"  # tests listen nowhere else
    with server(tmp_path, *arguments, "--port", "0") as (process, address):
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer another-key"}).status_code == 200
        assert process.stdout and process.stdout.readline() == f"A page to chat is at {address}/\n"
        assert "<title>chatcli</title>" in httpx.get(f"{address}/").text  # which asks its reader for the key
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 128 + signal.SIGHUP
        said = process.stderr.read() if process.stderr else ""
        assert "chmod 600" in said and "a-key" not in said
