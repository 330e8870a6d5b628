"""`--server` and `chatcli servers` as a shell sees them: real processes, a real server, no key anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from faulty_server import chunk, ending, endless, serving, silent, status, stream
from waiting import until

SECRET = "sk-very-secret-key"


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CHATCLI_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}


def chatcli(surroundings: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chatcli", *arguments]
    return subprocess.run(command, env=surroundings, input=given, capture_output=True, text=True, check=False)


def written_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_server_from_its_name_to_its_end(surroundings: dict[str, str], tmp_path: Path) -> None:
    """Add, list, test, ask, go on, replay, remove; the key is on no command line, in no file and in no output."""
    surroundings["HOME_KEY"] = SECRET
    said: list[str] = []
    with serving(models=[{"id": "tiny", "owned_by": "vllm", "max_model_len": 512}]) as server:

        def ran(*arguments: str, given: str = "") -> str:
            done = chatcli(surroundings, *arguments, given=given)
            assert done.returncode == 0, done
            said.append(done.stdout + done.stderr)
            return done.stdout

        ran("servers", "add", "home", server.url, "--key-from", "HOME_KEY")
        (listed,) = json.loads(ran("servers", "--json"))
        assert listed == {"name": "home", "url": server.url, "model": "", "kind": "", "key_from": "HOME_KEY"}
        tested = ran("servers", "test", "home")
        assert "is vLLM" in tested and "  tiny  (512 tokens)" in tested
        assert ran("ask", "--server", "home", "Is it?") == "Yes.\n"
        assert ran("ask", "-c", "--top-k", "3", "Really?", given="diff") == "Yes.\n"
        assert ran("replay", "@1") == "Yes.\n"
        answer = json.loads(ran("ask", "--json", "-m", "tiny @ home", "Is it?"))
        ran("config", "show")
        ran("history", "export", "@1")
        ran("servers", "rm", "home")
        assert json.loads(ran("servers", "--json")) == []
    assert (answer["model"], answer["device"]) == ("tiny @ home", "vLLM")
    assert answer["settings"].keys() == {"seed"}  # what else holds is the server's own
    _, second, replayed, _ = server.asked
    assert [message["content"] for message in second["messages"]] == ["Is it?", "Yes.", "diff\n\nReally?"]
    assert second["top_k"] == 3 and second["model"] == "tiny"
    assert replayed == second
    assert all(headers["Authorization"] == f"Bearer {SECRET}" for _, headers, _ in server.got)
    assert SECRET.encode() not in written_below(tmp_path / "home") and SECRET not in "".join(said)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (status(401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}), 3, "refuses the key"),
        (status(404, {"error": {"message": "model not found"}}), 3, "has no model m"),
        (status(400, {"error": {"message": "bad request"}}), 2, "bad request"),
        (stream(chunk(content="Half"), cut=True), 5, "what it said until then is kept"),
    ],
)
def test_what_goes_wrong_has_a_code_and_one_sentence(
    surroundings: dict[str, str], reply: Any, code: int, words: str
) -> None:
    surroundings["CHATCLI_SERVER_KEY"] = SECRET
    with serving(reply) as server:
        done = chatcli(surroundings, "ask", "--server", server.url, "Is it?")
    assert done.returncode == code
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_half_an_answer_is_kept_and_the_talk_goes_on(surroundings: dict[str, str]) -> None:
    with serving(stream(chunk(content="Half"), cut=True), stream(chunk(content="Whole."), ending())) as server:
        assert chatcli(surroundings, "ask", "--server", server.url, "Is it?").stdout == "Half\n"
        assert chatcli(surroundings, "ask", "-c", "Really?").stdout == "Whole.\n"
        assert [each["content"] for each in server.asked[1]["messages"]] == ["Is it?", "Half", "Really?"]


def test_ctrl_c_leaves_the_server_at_once(surroundings: dict[str, str]) -> None:
    with serving(endless) as server:
        command = [sys.executable, "-m", "chatcli", "ask", "--server", server.url, "Is it?"]
        running = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True)
        assert running.stdout and running.stdout.read(5) == "word "
        running.send_signal(signal.SIGINT)
        assert running.wait() == -signal.SIGINT
        server.left.wait()
        running.stdout.close()


def test_what_is_for_models_of_this_machine_is_refused(surroundings: dict[str, str]) -> None:
    for flags in (["--quant", "int8"], ["--revision", "main"]):
        done = chatcli(surroundings, "ask", "--server", "localhost:1", *flags, "Is it?")
        assert done.returncode == 2 and "for models of this machine" in done.stderr
    with serving() as server:
        done = chatcli(surroundings, "ask", "--server", server.url, "--truncate", "head", "Is it?")
        assert done.returncode == 2 and "--truncate" in done.stderr


def test_nobody_there(surroundings: dict[str, str]) -> None:
    done = chatcli(surroundings, "ask", "--server", "localhost:1", "Is it?")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "chatcli: localhost:1 is not there: nobody listens at localhost:1.\n"


def test_a_batch_asks_many_at_once_keeps_the_order_and_goes_on(surroundings: dict[str, str], tmp_path: Path) -> None:
    questions, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    questions.write_text("\n".join(json.dumps({"prompt": f"q{n}", "id": n}) for n in range(20)))
    answered = [stream(chunk(content="Yes"), ending())] * 4
    with serving(*answered, silent) as server:
        command = ["batch", "--server", server.url, str(questions), "-o", str(target)]
        running = subprocess.Popen([sys.executable, "-m", "chatcli", *command], env=surroundings)
        until(lambda: len(server.asked) >= 10)
        running.send_signal(signal.SIGINT)
        running.wait()
        assert not target.exists()
        server.replies[:] = answered
        done = chatcli(surroundings, *command)
        assert done.returncode == 0, done
        asked = [body["messages"][0]["content"] for body in server.asked]
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == list(range(20))
    assert {answer["text"] for answer in answers} == {"Yes"}
    assert set(asked) == {f"q{n}" for n in range(20)}
    assert len(asked) <= 36  # those under way at the interruption are asked again, the answered ones are not


def test_a_key_on_the_command_line_is_taken_for_a_mistake(surroundings: dict[str, str], tmp_path: Path) -> None:
    done = chatcli(surroundings, "servers", "add", "home", "https://h", "--key-from", SECRET)
    assert done.returncode == 2 and SECRET not in done.stderr
    done = chatcli(surroundings, "servers", "add", "home", "https://h", "--key-from", "keyring", given=f"{SECRET}\n")
    assert done.returncode == 2 and "typed at a terminal" in done.stderr
    assert SECRET.encode() not in written_below(tmp_path)


def test_a_key_is_typed_unseen_kept_in_the_keyring_and_forgotten(surroundings: dict[str, str], tmp_path: Path) -> None:
    kept = tmp_path / "keys.json"
    surroundings |= {
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "KEYRING_FILE": str(kept),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    with serving() as server:
        command = ["-m", "chatcli", "servers", "add", "home", server.url, "--key-from", "keyring"]
        terminal = pexpect.spawn(sys.executable, command, env=surroundings, timeout=None, encoding="utf-8")
        terminal.expect_exact("Key of home (not shown): ")
        terminal.sendline(SECRET)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == 0 and terminal.before is not None
        assert SECRET not in terminal.before
        address = server.url.removesuffix("/v1")
        assert json.loads(kept.read_text()) == {f"chatcli home {address}": SECRET}
        assert chatcli(surroundings, "ask", "--server", "home", "Is it?").stdout == "Yes.\n"
        assert server.got[-1][1]["Authorization"] == f"Bearer {SECRET}"
        assert chatcli(surroundings, "servers", "rm", "home").returncode == 0
    assert json.loads(kept.read_text()) == {}
    assert SECRET.encode() not in written_below(tmp_path / "home")
