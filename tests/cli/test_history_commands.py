"""`chatcli history` and `--continue` as a shell sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pexpect
import pytest

from chatcli.cli.continuing import with_id
from chatcli.cli.opening import open_session
from chatcli.cli.options import Talk
from chatcli.config import load
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.session import Session

History = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def history(tmp_path: Path) -> History:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "chatcli", "history", *arguments]
        environment = {**os.environ, "CHATCLI_HOME": str(tmp_path)}
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)

    return run


def talk(home: Path, question: str, answer: str = "An \x1b[31m answer.", now: float | None = None) -> str:
    clock = time.time if now is None else lambda: now or 0.0
    with closing(Store.open(home / "data" / "history.db", clock)) as store:
        session = Session(ScriptedEngine([answer]), GenerationSettings(), store)
        list(session.say(question))
        return session.id


def test_lists_for_programs(tmp_path: Path, history: History) -> None:
    assert json.loads(history("--json").stdout) == []
    first, second = talk(tmp_path, "Where is Rome?"), talk(tmp_path, "巴黎在哪里？")
    listed = json.loads(history("--json", "--limit", "1").stdout)
    assert [(each["id"], each["title"], each["model"], each["turns"]) for each in listed] == [
        (second, "巴黎在哪里？", "scripted", 1)
    ]
    shown = json.loads(history("show", first, "--json").stdout)
    assert [each["content"] for each in shown["messages"]] == ["Where is Rome?", "An \x1b[31m answer."]
    assert isinstance(shown["messages"][1]["settings"]["seed"], int), "a reply can be made again"


def test_search_prints_the_place_and_no_escape_code_in_a_pipe(tmp_path: Path, history: History) -> None:
    found, _ = talk(tmp_path, "巴黎在哪里？"), talk(tmp_path, "Other", "Nothing")
    for query in (("answer",), ("巴",), ("哪里",), ("--", "-answer", '"an')):
        ran = history("search", *query)
        assert ran.returncode == 0 and ran.stdout.startswith(found) and "\x1b" not in ran.stdout, query
    assert "An \ufffd[31m answer." in history("search", "answer").stdout
    assert history("search", "nowhere").stdout == ""
    assert history("search", " ").returncode == 2
    (hit,) = json.loads(history("search", "--json", "answer").stdout)
    ((start, end),) = hit["marks"]
    assert (hit["id"], hit["role"], hit["excerpt"][start:end]) == (found, "assistant", "answer")


def test_export_and_import_of_a_whole_history(tmp_path: Path, history: History) -> None:
    ids = [talk(tmp_path, "Where is Rome?"), talk(tmp_path, "And Oslo?")]
    target = tmp_path / "all.jsonl"
    assert history("export", "--all", "--output", str(target)).returncode == 0
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == ids
    assert target.stat().st_mode & 0o077 == 0
    assert history("rm", "--yes", ids[0]).stdout == "Removed: 1.\n"
    for said in ("Imported: 1. There already: 1.", "Imported: 0. There already: 2."):
        assert history("import", str(target)).stdout.startswith(said)
    piped = history("import", "-", stdin='{"messages": [{"role": "user", "content": "hi"}, {"role": "tool"}]}')
    assert piped.stdout == "Imported: 1. There already: 0. Skipped: 1 x message of tool.\n"
    assert history("export", "@1").stdout.startswith("# hi\n")
    for form in ("md", "json", "html"):
        assert "Where is Rome?" in history("export", ids[0], "--format", form).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("export",), ("export", "@1", "--all"), ("export", "@1", "-f", "pdf"), ("import", "nothing.json"),
        ("prune", "--older-than", "soon"), ("prune",), ("rm", "nothing"), ("title", "@1", " "), ("rm",),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(tmp_path: Path, history: History, arguments: tuple[str, ...]) -> None:
    talk(tmp_path, "q")
    ran = history(*arguments)
    assert ran.returncode != 0 and ran.stdout == "" and ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(json.loads(history("--json").stdout)) == 1


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path, history: History) -> None:
    target = tmp_path / "out.md"
    target.write_text("old")
    assert history("export", "nothing", "-o", str(target)).returncode == 2
    assert target.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_prune_takes_the_old_and_says_which(tmp_path: Path, history: History) -> None:
    old, new = talk(tmp_path, "old", now=time.time() - 91 * 86400), talk(tmp_path, "new", now=time.time() - 89 * 86400)
    dry = history("prune", "--older-than", "90d", "--dry-run")
    assert dry.stdout.split()[0] == old and dry.stdout.count("\n") == 1
    refused = history("prune", "--older-than", "90d")
    assert (refused.returncode, refused.stdout) == (2, "") and "--yes" in refused.stderr
    assert history("prune", "--older-than", "90d", "--yes").stdout == "Removed: 1.\n"
    assert [each["id"] for each in json.loads(history("--json").stdout)] == [new]


@pytest.mark.parametrize(("typed", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_rm_asks_in_a_terminal(tmp_path: Path, history: History, typed: str, left: int) -> None:
    talk(tmp_path, "q")
    child = pexpect.spawn(
        sys.executable, ["-m", "chatcli", "history", "rm", "@1"], env={**os.environ, "CHATCLI_HOME": str(tmp_path)}
    )
    child.expect_exact("[y/N]", timeout=None)
    child.send(typed)
    child.expect(pexpect.EOF, timeout=None)
    assert len(json.loads(history("--json").stdout)) == left


def test_title_and_path(tmp_path: Path, history: History) -> None:
    assert Path(history("path").stdout.strip()) == tmp_path / "data" / "history.db"
    assert not (tmp_path / "data").exists(), "asking where it is makes nothing"
    talk(tmp_path, "q")
    assert history("title", "@1", "My", "talk").returncode == 0
    assert json.loads(history("--json").stdout)[0]["title"] == "My talk"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("--continue", "--continue"),
        ("-c", "-c"),
        ("-c @2", "--id @2"),
        ("--continue 3f8a", "--id 3f8a"),
        ("--continue=abcd", "--id abcd"),
        ("-c=abcd model", "--id abcd model"),
        ("-c jxqmjhebzcdf", "--id jxqmjhebzcdf"),
        ("model -c", "model -c"),
        ("-c Qwen/Qwen3-0.6B", "-c Qwen/Qwen3-0.6B"),
        ("-c why", "-c why"),
        ("-c -- 3f8a", "-c -- 3f8a"),
        ("--continue=", "--continue"),
        ("-- -c=x", "-- -c=x"),
    ],
)
def test_what_follows_continue(given: str, taken: str) -> None:
    assert with_id(given.split()) == taken.split()


def open_history(environment: Environment) -> Store:
    return Store.open(environment.data_folder / "history.db")


def opened(environment: Environment, flags: Mapping[str, object], resume: str = "") -> Session:
    return open_session(environment, load(environment, {**flags, "keep_alive": "0"}), Talk(flags, resume))


def test_a_talk_goes_on_with_its_model_or_another(environment: Environment) -> None:
    with closing(open_history(environment)) as store:
        session = Session(ScriptedEngine(["a"]), GenerationSettings(), store)
        list(session.say("q"))
    for flags, model in (({}, "scripted"), ({"model": "owner/other"}, "owner/other")):
        again = opened(environment, flags, session.id[:6])
        assert (again.id, again.engine.facts.model, again.conversation.exchanges) == (session.id, model, 1)


def test_nothing_is_kept_where_nothing_shall_be(environment: Environment) -> None:
    session = opened(environment, {"history": False})
    session.engine = ScriptedEngine(["a"])
    list(session.say("secret"))
    assert session.conversation.exchanges == 1 and not environment.data_folder.exists()


def test_a_stored_talk_goes_on_without_a_trace(environment: Environment) -> None:
    environment.config_folder.mkdir()
    (environment.config_folder / "config.toml").write_text("history = false\n")
    with closing(open_history(environment)) as store:
        before = Session(ScriptedEngine(["a"]), GenerationSettings(), store)
        list(before.say("q"))
    session = opened(environment, {}, "@1")
    session.engine = ScriptedEngine(["b"])
    list(session.say("secret"))
    assert [each.text for each in session.conversation.messages] == ["q", "a", "secret", "b"]
    with closing(open_history(environment)) as store:
        assert [each.text for each in store.load(before.id).messages] == ["q", "a"]
    with pytest.raises(UsageError):
        opened(environment, {}, "nothing")
