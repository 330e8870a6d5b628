"""The slash commands: what they do to the session, and how a line becomes one."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import Event, GenerationSettings
from chatcli.history.store import Store
from chatcli.repl.commands import ALIASES, COMMANDS, NAMES, Leave, parse
from chatcli.repl.state import Chat
from chatcli.session import Session

Run = Callable[[str], str]


@pytest.fixture
def chat(environment: Environment) -> Chat:
    engine = ScriptedEngine(["First answer.", "Other answer."])
    store = Store.open(environment.data_folder / "history.db")
    return Chat(Session(engine, GenerationSettings(), store, system="Be brief."), environment)


@pytest.fixture
def run(chat: Chat) -> Run:
    """Runs a line's command; returns what it printed."""

    def running(line: str) -> str:
        out = chat.environment.stdout
        assert isinstance(out, io.StringIO)
        begin = len(out.getvalue())
        called = parse(line)
        assert called, line
        reply = called[0].run(chat, called[1])
        if reply:
            list(reply)
        return out.getvalue()[begin:]

    return running


def say(chat: Chat, text: str) -> list[Event]:
    return list(chat.session.say(text))


def test_the_names_are_those_of_the_manual_and_need_no_terminal_library() -> None:
    talk, rest = "clear undo edit retry continue branch copy think", "system set model show history resume title"
    assert tuple(f"{talk} {rest} help stats tokens exit".split()) == NAMES
    assert set(ALIASES.values()) <= set(NAMES)
    assert not set(ALIASES) & set(NAMES)
    code = (
        "import sys, chatcli.repl.commands\n"
        "heavy = {'torch', 'transformers', 'prompt_toolkit', 'rich'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/undo", "undo", ""),
        ("/UNDO ", "undo", ""),
        ("/system  Be kind.\nAnd short. ", "system", "Be kind.\nAnd short."),
        ("/exit\n", "exit", ""),
        ("!!exit", "exit", ""),
        ("/bye", "exit", ""),
        ("/?", "help", ""),
        ("/? set", "help", "set"),
        ("/new", "clear", ""),
        ("/regenerate", "retry", ""),
    ],
)
def test_lines_that_are_commands(line: str, name: str, argument: str) -> None:
    called = parse(line)
    assert called == (COMMANDS[name], argument)


@pytest.mark.parametrize(
    "line",
    ["hello", "/usr/bin/env is where?", "// a comment", "/* another */", "!!important: read this", " /undo", "/"],
)
def test_lines_that_are_for_the_model(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(("line", "nearest"), [("/unod", "/undo"), ("/sytem x", "/system"), ("/quit?", "/quit")])
def test_a_mistyped_command_names_the_nearest(line: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {nearest}"):
        parse(line)


def test_undo_says_which_question_it_took_back(chat: Chat, run: Run) -> None:
    assert "nothing to take back" in run("/undo")
    say(chat, "Who?\nYou?")
    assert run("/undo") == "Taken back: Who? You?\n"
    assert chat.session.conversation.spoken == ()


def test_retry_answers_the_last_question_again(chat: Chat, run: Run) -> None:
    assert "no question" in run("/retry")
    say(chat, "Who?")
    run("/retry")
    assert [m.text for m in chat.session.conversation.spoken] == ["Who?", "Other answer."]


def test_clear_begins_anew_and_keeps_the_old_talk_in_the_history(chat: Chat, run: Run) -> None:
    say(chat, "Who?")
    old = chat.session.id
    run("/clear")
    say(chat, "What?")
    assert chat.session.conversation.system == "Be brief."
    with closing(Store.open(chat.environment.data_folder / "history.db")) as store:
        assert {each.id for each in store.recent(9)} == {old, chat.session.id}


def test_system_is_shown_set_and_removed(chat: Chat, run: Run) -> None:
    assert "Be brief." in run("/system")
    run("/system Speak\nChinese.")
    assert chat.session.conversation.system == "Speak\nChinese."
    run("/system -")
    assert chat.session.conversation.system == ""
    assert "no system message" in run("/system")


def test_set_shows_changes_and_unsets(chat: Chat, run: Run) -> None:
    run("/set temperature 0.2")
    run("/set max_tokens 99")
    assert chat.session.settings == GenerationSettings(temperature=0.2, max_new_tokens=99)
    listed = dict(line.split(maxsplit=1) for line in run("/set").splitlines())
    assert (listed["temperature"], listed["max_tokens"]) == ("0.2", "99")
    assert "top_p" in listed
    run("/set temperature default")
    assert chat.session.settings.temperature is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/set temperatur 1", "did you mean temperature"),
        ("/set temperature -1", "cannot be"),
        ("/set model gpt2", "no setting"),
        ("/help nonsense", "no command"),
    ],
)
def test_wrong_arguments_are_explained_and_change_nothing(chat: Chat, run: Run, line: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(line)
    assert chat.session.settings == GenerationSettings()


def test_stats_tell_of_the_last_reply(chat: Chat, run: Run) -> None:
    assert "no numbers yet" in run("/stats")
    say(chat, "Who?")
    told = run("/stats")
    assert "8 tokens" in told
    assert "2 tokens, ended by: the model" in told


def test_help_lists_every_command_and_explains_one(run: Run) -> None:
    listed = run("/help")
    assert all(each.usage in listed and each.help in " ".join(listed.split()) for each in COMMANDS.values())
    assert COMMANDS["set"].help in run("/help /set")
    assert COMMANDS["exit"].help in run("/help bye")


def test_what_a_command_prints_cannot_act_on_the_terminal(run: Run) -> None:
    assert "\x1b" not in run("/system \x1b]0;owned\x07")


def test_exit_leaves(run: Run) -> None:
    with pytest.raises(Leave):
        run("/exit")
