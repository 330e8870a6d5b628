"""Every key of the prompt: keys in, transcript and history out."""

from __future__ import annotations

import io
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeoutError
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from prompt_toolkit.application import Application, get_app_or_none
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from waiting import until

from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.errors import ModelNotFound
from chatcli.generation import Engine, Event, Finished, GenerationSettings, Text
from chatcli.history.store import Store
from chatcli.repl.commands import COMMANDS
from chatcli.repl.loop import chat
from chatcli.session import Session

ENTER, CTRL_C, CTRL_D, CTRL_J, CTRL_R, CTRL_U, TAB = "\r", "\x03", "\x04", "\n", "\x12", "\x15", "\t"
ALT_ENTER, UP = "\x1b\r", "\x1b[A"
BACKSPACE, CTRL_L, CTRL_O, CTRL_W, ESC, RIGHT = "\x7f", "\x0c", "\x0f", "\x17", "\x1b", "\x1b[C"
PAUSE = "\0"  # until all that was typed is done with; what is beside the keys is faster than anybody types


@dataclass
class Talk:
    """What came of a chat."""

    code: int
    questions: list[str]
    out: str
    err: str


ALWAYS_BESIDE = {"Application._poll_output_size", "KeyProcessor._start_timeout.<locals>.wait"}


class Watched(DummyOutput):
    """A screen that knows the prompt which draws on it."""

    app: Application[object] | None = None

    def flush(self) -> None:
        self.app = get_app_or_none()


def _type(keyboard: PipeInput, keys: str, screen: Watched) -> None:
    for number, burst in enumerate(keys.split(PAUSE)):
        if number:
            until(lambda: _rests(screen.app, keyboard))
        keyboard.send_bytes(burst.encode("utf-8", "surrogateescape"))


def _rests(app: Application[object] | None, keyboard: PipeInput) -> bool:
    """Whether the prompt has taken every key and nothing goes on beside it: an editor, a completion, an Esc's pause."""
    found: Future[bool] = Future()

    def look() -> None:
        assert app
        keys = app.key_processor
        unread = select.select([keyboard.fileno()], [], [], 0)[0] or keys.input_queue or keys.key_buffer
        beside = {task.get_coro().__qualname__ for task in app._background_tasks} - ALWAYS_BESIDE
        found.set_result(app.is_running and not app.is_done and not unread and not beside)

    try:
        if app and app.loop:
            app.loop.call_soon_threadsafe(look)
            return found.result(timeout=0.1)  # one prompt may have ended, and the next has another loop
    except (RuntimeError, TimeoutError, FuturesTimeoutError):
        pass
    return False


def pasted(text: str) -> str:
    return f"\x1b[200~{text}\x1b[201~"


Type = Callable[..., Talk]


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as opened:
        yield opened


@pytest.fixture
def type_keys(environment: Environment, keyboard: PipeInput) -> Type:
    """Types all keys into a chat and lets it end by itself, with Ctrl-D at last."""

    def typing(keys: str, *, engine: Engine | None = None, end: str = CTRL_D, vi: bool = False) -> Talk:
        asked = engine or ScriptedEngine(["First answer.", "Second answer."])
        assert isinstance(environment.stdout, io.StringIO)
        screen = Watched()
        typist = threading.Thread(target=_type, args=(keyboard, keys + end, screen))
        typist.start()
        with closing(Store.open(environment.data_folder / "history.db")) as store:
            session = Session(asked, GenerationSettings(), store)
            code = chat(session, environment, vi=vi, input=keyboard, output=screen)
            spoken = store.load(session.id).messages if session.id else ()
        typist.join()
        assert isinstance(environment.stderr, io.StringIO)
        questions = [m.text for m in spoken if m.role == "user"]
        return Talk(code, questions, environment.stdout.getvalue(), environment.stderr.getvalue())

    return typing


@pytest.mark.parametrize(
    ("keys", "questions"),
    [
        ("hello" + ENTER, ["hello"]),
        ("one" + ALT_ENTER + "two" + ENTER, ["one\ntwo"]),
        ("one" + CTRL_J + "two" + ENTER, ["one\ntwo"]),
        ("\x1b[200~one\r\ntwo\r\n\x1b[201~" + ENTER, ["one\ntwo"]),
        ("wrong" + CTRL_C + "right" + ENTER, ["right"]),
        (ENTER + "   " + ENTER, []),
        ("hello" + ENTER + PAUSE + UP + "!" + ENTER, ["hello", "hello!"]),
        ("hello" + ENTER + "other" + ENTER + PAUSE + CTRL_R + "hel" + ENTER + ENTER, ["hello", "other", "hello"]),
        ("lost" + CTRL_C + PAUSE + UP + ENTER, ["lost"]),
        ("    return x" + ENTER, ["    return x"]),
        ("你好" + ENTER, ["你好"]),
        ("caf\udce9" + ENTER, ["caf?"]),
        ('"""' + ENTER + "/exit" + ENTER + ENTER + "now" + ENTER + '"""' + ENTER, ["/exit\n\nnow"]),
        (pasted("long\n" * 30) + " why?" + ENTER, ["long\n" * 30 + " why?"]),
        (pasted("long\n" * 30) + BACKSPACE + "short" + ENTER, ["short"]),
        (pasted("long\n" * 30) + CTRL_W + "short" + ENTER, ["short"]),
        (pasted("/exit\n" * 30) + ENTER, ["/exit\n" * 29 + "/exit"]),
        ("kept" + CTRL_L + ENTER, ["kept"]),
        ("hello there" + ENTER + PAUSE + "hel" + PAUSE + RIGHT + ENTER, ["hello there", "hello there"]),
    ],
)
def test_what_is_typed_is_what_is_asked(type_keys: Type, keys: str, questions: list[str]) -> None:
    talk = type_keys(keys)
    assert (talk.code, talk.questions) == (0, questions)
    assert ("First answer." in talk.out) == bool(questions)
    assert talk.err == ""


@pytest.mark.parametrize(
    ("keys", "questions"),
    [
        ("ab" + ESC + PAUSE + "0x" + PAUSE + ENTER, ["b"]),
        ("one" + ALT_ENTER + "two" + ENTER, ["one\ntwo"]),
        ("one two" + ESC + PAUSE + "bD" + PAUSE + "A2" + ENTER, ["one 2"]),
        ("hello" + ENTER + "other" + ENTER + PAUSE + CTRL_R + "hel" + ENTER + ENTER, ["hello", "other", "hello"]),
    ],
)
def test_vis_keys(type_keys: Type, keys: str, questions: list[str]) -> None:
    assert type_keys(keys, vi=True).questions == questions


def test_ctrl_o_opens_the_whole_text_in_the_editor(type_keys: Type, environment: Environment, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/long 7$/short/; 2d" "$1"\n')
    editor.chmod(0o755)
    object.__setattr__(environment, "variables", {"EDITOR": str(editor)})
    text = "\n".join(f"long {n}" for n in range(30))
    talk = type_keys(pasted(text) + CTRL_O + PAUSE + ENTER)
    assert talk.questions == [text.replace("long 7\n", "short\n").replace("long 1\n", "", 1)]
    assert talk.err == ""


def test_without_an_editor_the_line_stays(type_keys: Type) -> None:
    talk = type_keys("hello" + CTRL_O + PAUSE + " there" + ENTER)
    assert talk.questions == ["hello there"]
    assert "chatcli: There is no editor: set $EDITOR" in talk.err


@pytest.mark.parametrize("keys", ["/exit" + ENTER, CTRL_D, CTRL_C + CTRL_C, "/bye" + ENTER])
def test_ways_to_leave(type_keys: Type, keys: str) -> None:
    assert type_keys(keys, end="").code == 0


def test_ctrl_c_between_two_others_starts_the_count_again(type_keys: Type) -> None:
    """A Ctrl-C, a line typed and cleared, and another Ctrl-C once left the chat."""
    assert type_keys(CTRL_C + "x" + CTRL_C + CTRL_C + "still here" + ENTER).questions == ["still here"]


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("/system Be brief." + ENTER + "/sy" + TAB + ENTER, "System message: Be brief."),
        ("/un" + TAB + ENTER, "There is nothing to take back."),
        ("/s" + PAUSE + TAB + TAB + ENTER, "temperature"),  # through the menu: /system, /set
        ("/help s" + TAB + "et" + ENTER, "/set ["),
        ("/help sea" + TAB + ENTER, "/search WORDS"),
        ("/set overflow d" + TAB + ENTER, "drop-oldest (/set)"),
    ],
)
def test_tab_completes_a_command(type_keys: Type, typed: str, printed: str) -> None:
    assert printed in type_keys(typed).out


def test_commands_reach_the_session_and_mistakes_are_explained(type_keys: Type) -> None:
    talk = type_keys("hello" + ENTER + "/unod" + ENTER + "/undo" + ENTER + "/set top_p 7" + ENTER)
    assert talk.questions == []
    assert "Taken back: hello" in talk.out
    assert "did you mean /undo" in talk.err
    assert "top_p cannot be 7" in talk.err


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "exit"])
def test_no_command_ends_the_chat(type_keys: Type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bare, as its example, and with nonsense behind it; an editor's line of control codes is nonsense, too."""
    monkeypatch.chdir(tmp_path)
    example = COMMANDS[name].example
    typed = ENTER.join(["hello", f"/{name}", CTRL_U + example, f'{CTRL_U}/{name} \\ 9"x', f"{CTRL_U}still here?", ""])
    talk = type_keys(typed)
    assert talk.code == 0
    assert talk.questions[-1] == "still here?"
    assert "unexpected" not in talk.err


@dataclass
class Odd(ScriptedEngine):
    """An engine with a defect."""

    def __post_init__(self) -> None:
        super().__init__([[Text("Half"), RuntimeError("boom")], "Fine."])


def test_a_defect_in_a_reply_does_not_end_the_chat(type_keys: Type) -> None:
    talk = type_keys("one" + ENTER + "two" + ENTER, engine=Odd())
    assert talk.code == 0
    assert talk.err == "chatcli: unexpected RuntimeError: boom; --debug shows more.\n\n"
    assert "Fine." in talk.out


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([Text("Half"), Finished("length", 8, 1)], "[cut off: the limit of tokens is reached]"),
        ([Finished("stop", 8, 0)], "[the model said nothing]"),
    ],
)
def test_a_reply_that_is_not_whole_says_so(type_keys: Type, script: list[Event], sentence: str) -> None:
    assert sentence in type_keys("hello" + ENTER, engine=ScriptedEngine([script])).out


@pytest.mark.parametrize(("error", "code"), [(ModelNotFound("There is no such model."), 3), (ValueError("odd"), 5)])
def test_a_failed_load_ends_the_chat_and_keeps_what_was_typed(
    type_keys: Type, keyboard: PipeInput, environment: Environment, error: Exception, code: int
) -> None:
    def fail(report: Report) -> Engine:
        while select.select([keyboard.fileno()], [], [], 0)[0]:  # until the prompt has taken the keys
            time.sleep(0.01)
        raise error

    keyboard.send_text("half a thought")
    talk = type_keys("", engine=DeferredEngine(fail, name="m"), end="")
    assert (talk.code, talk.questions) == (code, [])
    assert str(error) in talk.err
    assert "half a thought" in (environment.state_folder / "input_history").read_text()


def test_input_history_is_kept_for_the_next_chat_and_is_private(type_keys: Type, environment: Environment) -> None:
    type_keys("one" + ALT_ENTER + "two" + ENTER)
    file = environment.state_folder / "input_history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert type_keys(PAUSE + UP + "!" + ENTER).questions == ["one\ntwo!"]


def test_the_input_history_keeps_pasted_texts_whole_but_not_endless_ones(
    type_keys: Type, environment: Environment
) -> None:
    """Their labels would mean nothing in another chat; megabytes would be read by every chat that begins."""
    text = "\n".join(f"long {n}" for n in range(30))
    type_keys(pasted(text) + ENTER + pasted("x" * 70_000) + " twice" + ENTER)
    kept = (environment.state_folder / "input_history").read_text()
    assert "+long 28\n+long 29\n" in kept
    assert "pasted" not in kept and "twice" not in kept
    assert type_keys(PAUSE + UP + ENTER).questions == [text]


def test_no_place_for_the_input_history_is_no_reason_to_stop(type_keys: Type, environment: Environment) -> None:
    Path(environment.state_folder).write_text("a file where the folder should be")
    assert type_keys("one" + ENTER + PAUSE + UP + "!" + ENTER).questions == ["one", "one!"]
