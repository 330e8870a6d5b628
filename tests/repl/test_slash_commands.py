"""The slash commands: what they do to the session, and how a line becomes one."""

from __future__ import annotations

import io
import itertools
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from chatcli import config
from chatcli.engines.scripted import ScriptedEngine, Step
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import (
    Engine,
    EngineFacts,
    Event,
    Finished,
    GenerationSettings,
    Layer,
    Progress,
    Reasoning,
    Text,
)
from chatcli.history.store import Store
from chatcli.repl.commands import ALIASES, COMMANDS, NAMES, Leave, Offered, parse
from chatcli.repl.commands.complete import candidates
from chatcli.repl.commands.table import Completes
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
    talk, settings = "clear undo edit retry continue branch copy think", "system set model show"
    kept, about = "history resume title search file image save save! load", "help stats tokens exit"
    assert tuple(f"{talk} {settings} {kept} {about}".split()) == NAMES
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


@pytest.mark.parametrize("line", ["/undo it all", "/continue\n/set", "!!exit now"])
def test_a_command_without_arguments_ignores_none(line: str) -> None:
    with pytest.raises(UsageError, match="takes nothing behind it"):
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
    assert (listed["temperature"], listed["max_tokens"]) == ("0.2 (/set)", "99 (/set)")
    assert listed["top_p"] == "1.0 (chatcli's default)"
    assert set(listed) == {*config.KINDS} - set(config.NOT_OF_GENERATION)
    assert run("/set temperature default") == "temperature  0.7 (chatcli's default)\n"
    assert chat.session.settings.temperature is None
    assert run("/set seed=7") == "seed  7 (/set)\n"
    assert run("/set seed") == "seed  7 (/set)\n"


def test_set_tells_flags_files_and_the_model_apart(environment: Environment) -> None:
    class Layered(ScriptedEngine):
        @property
        def facts(self) -> EngineFacts:
            return replace(super().facts, layers=(Layer("generation_config.json", GenerationSettings(top_k=20)),))

    said = (Layer("--seed", GenerationSettings(seed=3)), Layer("config.toml", GenerationSettings(top_p=0.5)))
    settings = GenerationSettings(seed=3, top_p=0.5)
    with closing(Store.in_memory()) as store:
        chat = Chat(Session(Layered(["a"]), settings, store, said=said), environment)
        COMMANDS["set"].run(chat, "")
    assert isinstance(environment.stdout, io.StringIO)
    listed = dict(line.split(maxsplit=1) for line in environment.stdout.getvalue().splitlines())
    assert listed["seed"] == "3 (--seed)"
    assert listed["top_p"] == "0.5 (config.toml)"
    assert listed["top_k"] == "20 (generation_config.json)"


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


def test_stats_after_a_stopped_reply_and_the_share_of_the_bandwidth(environment: Environment) -> None:
    class Fast(ScriptedEngine):
        @property
        def facts(self) -> EngineFacts:
            return replace(super().facts, most_tokens_per_second=200.0)

    script: list[Step] = [Progress("reading", 6, 8), *[Progress("writing", n) for n in (1, 2, 3)], Text("a")]
    clock = itertools.count()
    with closing(Store.in_memory()) as store:
        session = Session(Fast([script]), GenerationSettings(), store, monotonic=lambda: next(clock) / 100)
        with closing(session.say("q")) as events:
            assert Text("a") in events
        COMMANDS["stats"].run(Chat(session, environment), "")
    assert isinstance(environment.stdout, io.StringIO)
    told = environment.stdout.getvalue()
    assert "8 tokens, 6 of them (75%) from the cache" in told
    assert "3 tokens, ended by: you" in told
    assert "100.0 tokens/s, 50% of what the memory's bandwidth allows" in told


def test_stats_tell_of_the_last_reply(chat: Chat, run: Run) -> None:
    assert "no numbers yet" in run("/stats")
    say(chat, "Who?")
    told = run("/stats")
    assert "8 tokens" in told
    assert "2 tokens, ended by: the model" in told


def test_help_lists_every_command_and_explains_one(run: Run) -> None:
    listed = run("/help")
    assert all(each.usage in listed and each.help in " ".join(listed.split()) for each in COMMANDS.values())
    assert COMMANDS["set"].help in " ".join(run("/help /set").split())
    assert COMMANDS["exit"].help in run("/help bye")


def test_what_a_command_prints_cannot_act_on_the_terminal(run: Run) -> None:
    assert "\x1b" not in run("/system \x1b]0;owned\x07")


def test_edit_offers_the_last_question_and_takes_it_back(chat: Chat) -> None:
    assert COMMANDS["edit"].run(chat, "") == Offered("", in_editor=True)
    say(chat, "Who\nare you?")
    assert COMMANDS["edit"].run(chat, "") == Offered("Who\nare you?", in_editor=True)
    assert chat.session.conversation.spoken == ()
    assert len(chat.session.branches()) == 1


def test_retry_takes_settings_for_this_once(chat: Chat, run: Run) -> None:
    say(chat, "Who?")
    run("/retry temperature=1.2 seed=5")
    assert [m.text for m in chat.session.conversation.spoken] == ["Who?", "Other answer."]
    assert chat.session.settings == GenerationSettings()
    for line, sentence in [
        ("/retry hotter", "temperature=1.2"),
        ("/retry temp=1", "no setting"),
        ("/retry top_p=9", "cannot"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            run(line)


def test_branch_lists_and_switches(chat: Chat, run: Run) -> None:
    assert "no branches yet" in run("/branch")
    say(chat, "Who?")
    run("/retry")
    listed = run("/branch").splitlines()
    assert listed[0].startswith("  1") and "First answer." in listed[0] and "scripted" in listed[0]
    assert listed[1].startswith("* 2") and "Other answer." in listed[1]
    assert "First answer." in run("/branch 1")
    assert chat.session.conversation.spoken[-1].text == "First answer."
    assert run("/branch").splitlines()[0].startswith("* 1")
    for wrong in ("/branch 3", "/branch 0", "/branch x"):
        with pytest.raises(UsageError, match="1 to 2"):
            run(wrong)


def test_continue_goes_on_or_says_why_not(environment: Environment, run: Run, chat: Chat) -> None:
    with pytest.raises(UsageError, match="no reply"):
        run("/continue")
    with closing(chat.session.say("Who?")) as events:
        assert Text("First ") in events
    run("/continue")
    assert chat.session.conversation.spoken[-1].text == "First answer."
    with pytest.raises(UsageError, match="complete"):
        run("/continue")


def test_model_goes_on_with_another_one(chat: Chat, run: Run) -> None:
    with pytest.raises(UsageError, match="one model only"):
        run("/model other")
    opened: list[str] = []

    class Other(ScriptedEngine):
        @property
        def facts(self) -> EngineFacts:
            return EngineFacts(opened[-1])

    def open_model(name: str) -> Engine:
        opened.append(name)
        return Other(["From the other."])

    say(chat, "Who?")
    both = replace(chat, open_model=open_model)
    COMMANDS["model"].run(both, "other/model")
    say(both, "And you?")
    assert [m.text for m in both.session.conversation.spoken][-1] == "From the other."
    assert "other/model" in run("/model")
    COMMANDS["model"].run(both, "other/model")
    assert opened == ["other/model", "other/model"]
    with closing(Store.open(chat.environment.data_folder / "history.db")) as store:
        stored = store.load(chat.session.id)
    assert stored.model == "other/model"
    assert [m.model for m in stored.messages if m.role == "assistant"] == ["scripted", "other/model"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/show", "First answer."),
        ("/show message", "First answer."),
        ("/show settings", "temperature"),
        ("/show model", "scripted"),
        ("/show adapter", "adapter"),
    ],
)
def test_show(chat: Chat, run: Run, line: str, shown: str) -> None:
    say(chat, "Who?")
    assert shown in run(line)


def test_show_of_something_else_is_explained(run: Run) -> None:
    with pytest.raises(UsageError, match="did you mean model"):
        run("/show modle")


def test_history_lists_and_resume_goes_back(chat: Chat, run: Run) -> None:
    assert "no conversations yet" in run("/history")
    say(chat, "Where is Rome?")
    first = chat.session.id
    run("/clear")
    say(chat, "Where is Paris?")
    listed = run("/history").splitlines()
    assert listed[0].startswith(f"* {chat.session.id}") and "Where is Paris?" in listed[0]
    assert listed[1].startswith(f"  {first}") and "Where is Rome?" in listed[1]
    assert "First answer." in run(f"/resume {first[:6]}")
    assert chat.session.id == first
    run("/history @2")
    assert chat.session.id == first
    with pytest.raises(UsageError, match="needs a conversation"):
        run("/resume")
    with pytest.raises(UsageError, match="No conversation"):
        run("/resume zzzz")
    assert chat.session.id == first


def test_title_is_shown_and_changed(chat: Chat, run: Run) -> None:
    assert "no title yet" in run("/title")
    say(chat, "Where is Rome?")
    assert run("/title") == "Title: Where is Rome?\n"
    assert run("/title Holidays") == "Title: Holidays\n"


def test_search_finds_what_was_said(chat: Chat, run: Run) -> None:
    say(chat, "Where is Rome?")
    assert chat.session.id in run("/search rome") and "Rome" in run("/search rome")
    assert run("/search atlantis") == "Nothing was found.\n"
    with pytest.raises(UsageError, match="needs words"):
        run("/search")


@pytest.mark.parametrize(("name", "wanted"), [("talk.md", "## You"), ("talk.html", "<html"), ("talk", "## You")])
def test_save_writes_what_the_ending_says(chat: Chat, run: Run, tmp_path: Path, name: str, wanted: str) -> None:
    with pytest.raises(UsageError, match="nothing to save"):
        run(f"/save {tmp_path / name}")
    say(chat, "Where is Rome?")
    assert "Saved to" in run(f"/save {tmp_path / name}")
    file = tmp_path / (name if "." in name else f"{name}.md")
    assert wanted in file.read_text(encoding="utf-8") and "First answer." in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_save_writes_over_a_file_only_when_told_to(chat: Chat, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "my talk.md"
    file.write_text("precious " * 9999)
    say(chat, "Where is Rome?")
    with pytest.raises(UsageError, match="/save! "):
        run(f'/save "{file}"')
    assert file.read_text().startswith("precious")
    run(f'/save! "{file}"')
    assert "precious" not in file.read_text() and "Rome" in file.read_text()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/save", "needs a file"),
        ("/save talk.pdf", ".md, .json, .jsonl, .html"),
        ("/save /nosuch/folder/talk.md", "cannot be opened"),
        ("/save a\0b.md", "cannot be opened"),
        ("/load", "needs a file"),
        ("/load /nosuch.json", "No such file"),
        ("/load /", "Is a directory"),
    ],
)
def test_files_that_cannot_be_are_explained(chat: Chat, run: Run, line: str, sentence: str) -> None:
    say(chat, "Where is Rome?")
    with pytest.raises(UsageError, match=sentence):
        run(line)


def test_load_goes_on_with_a_saved_talk_as_it_was_then(chat: Chat, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    say(chat, "Where is Rome?")
    run("/retry")
    run(f"/save {file}")
    saved, first = chat.session.conversation, chat.session.id
    say(chat, "And Paris?")
    assert "Other answer." in run(f"/load {file}")
    assert chat.session.conversation == saved
    assert chat.session.id != first
    assert len(chat.session.branches()) == 2
    say(chat, "And Oslo?")
    with closing(Store.open(chat.environment.data_folder / "history.db")) as store:
        assert [m.text for m in store.load(first).messages][2] == "And Paris?"
        assert [m.text for m in store.load(chat.session.id).messages][2] == "And Oslo?"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"# Markdown", "neither JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "holds no conversations"),
        (
            b'{"messages": [{"role": "user", "content": "a"}]}\n{"messages": [{"role": "user", "content": "b"}]}',
            "holds 2",
        ),
    ],
)
def test_what_is_no_talk_is_not_loaded(chat: Chat, run: Run, tmp_path: Path, data: bytes, sentence: str) -> None:
    say(chat, "Where is Rome?")
    before = chat.session.conversation
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(UsageError, match=sentence):
        run(f"/load {tmp_path / 'file.json'}")
    assert chat.session.conversation == before


def test_a_talk_that_cannot_be_stored_can_still_be_saved(chat: Chat, run: Run, tmp_path: Path) -> None:
    say(chat, "Where is Rome?")
    chat.session.store.close()
    say(chat, "And Paris?")
    run(f"/save {tmp_path / 'talk.json'}")
    assert "And Paris?" in (tmp_path / "talk.json").read_text()


def test_tokens_of_the_talk_and_of_a_text(chat: Chat, run: Run) -> None:
    assert "The talk has 2 tokens" in run("/tokens")
    say(chat, "Who?")
    assert run("/tokens") == "The talk has 10 tokens of 4096, 4086 are left.\n"
    assert run("/tokens one two three") == "As a question, 3 tokens.\n"


def test_think_unfolds_the_last_reasoning_and_switches(chat: Chat, run: Run) -> None:
    assert "no reply yet" in run("/think")
    say(chat, "Who?")
    assert "without reasoning" in run("/think")
    chat.session.engine = ScriptedEngine([[Reasoning("Who am I?"), Text("Me."), Finished("stop", 4, 2)]])
    say(chat, "Who?")
    assert "Who am I?" in run("/think")
    run("/think off")
    assert chat.session.settings.think is False
    run("/think on")
    assert chat.session.settings.think is True
    run("/think default")
    assert chat.session.settings.think is None
    with pytest.raises(UsageError, match="on, off or default"):
        run("/think harder")


def test_every_command_has_help_an_example_that_calls_it_and_something_to_complete(run: Run) -> None:
    for each in COMMANDS.values():
        called = parse(each.example)
        assert called and called[0] is each
        told = run(f"/help {each.name}")
        assert each.example in told and each.help.split(",")[0] in " ".join(told.split())
        assert isinstance(each.completes, tuple) or each.completes in get_args(get_args(Completes)[1])


def test_what_an_argument_may_be(chat: Chat, run: Run, tmp_path: Path) -> None:
    say(chat, "Where is Rome?")
    run("/retry")
    (tmp_path / "hub" / "models--Qwen--Qwen3-0.6B" / "snapshots" / "abc").mkdir(parents=True)
    chat = replace(chat, environment=replace(chat.environment, variables={"HF_HOME": str(tmp_path)}))
    chat.environment.config_folder.mkdir()
    (chat.environment.config_folder / "config.toml").write_text(
        '[alias]\nglm = "THUDM/chatglm-6b"\n[servers.home]\nurl = "http://localhost:8000/v1"\nmodel = "tiny"\n'
    )
    words = {each.name: dict(candidates(chat, each.completes)) for each in COMMANDS.values()}
    assert words["branch"] == {"1": "First answer.", "2": "Other answer."}
    assert words["resume"] == {chat.session.id: "Where is Rome?"}
    assert words["model"].items() >= {("glm", "THUDM/chatglm-6b"), ("Qwen/Qwen3-0.6B", "on this machine")}
    assert words["model"]["tiny @ home"] == "http://localhost:8000/v1"
    assert words["set"]["top_p"] == "a number above 0 and at most 1"
    assert set(words["help"]) == set(NAMES)
    assert set(words["think"]) == {"on", "off", "default"}
    assert words["save"] == words["system"] == {}
    chat.session.store.close()
    assert candidates(chat, "talks") == []


def test_exit_leaves(run: Run) -> None:
    with pytest.raises(Leave):
        run("/exit")
