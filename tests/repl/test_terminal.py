"""The chat in a real terminal: what a person sees while typing, stopping, pasting."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from terminal import Terminal

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
Open = Callable[..., Terminal]


def prompts(count: int) -> Callable[[str], bool]:
    return lambda text: sum(line.startswith(">") for line in text.split("\n")) >= count


def test_ctrl_c_in_a_reply_keeps_what_was_shown_and_the_next_turn_works(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]]
) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("tell me" + ENTER)
    chat.wait("word12")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    shown = chat.text.split("tell me\n")[1].split("\n[stopped]")[0].replace("\n", " ").split()
    chat.wait(prompts(2))
    chat.send("and?" + ENTER)
    chat.wait("Second answer.")
    chat.wait(prompts(3))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    messages = saved()
    kept = messages[1][1].split()
    # A word that wraps at the edge is two on the screen.
    assert "".join(shown) == "".join(kept)
    assert messages[2:] == [("user", "and?"), ("assistant", "Second answer.")]


@pytest.mark.parametrize("stop", [False, True])
def test_keys_typed_while_a_reply_streams_wait_for_the_prompt(open_chat: Open, stop: bool) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("first" + ENTER)
    chat.wait("word3")
    chat.send("typed a" + ENTER + "head")
    chat.wait("word9")
    assert "typed" not in chat.text.replace("\n", "")
    if stop:
        chat.send(CTRL_C)
    else:
        chat.let("enough")
    chat.wait("> typed a\n  head")


def test_ctrl_c_twice_at_the_empty_prompt_leaves(open_chat: Open) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("not sent" + CTRL_C)
    chat.wait(lambda text: "not sent" not in text)
    chat.send(CTRL_C)
    chat.wait("Ctrl-C again leaves")
    chat.send(CTRL_C)
    assert chat.exit_code() == 0


@pytest.mark.parametrize(("columns", "term"), [(20, "xterm"), (80, "dumb")])
def test_a_small_and_a_dumb_terminal(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]], columns: int, term: str
) -> None:
    chat = open_chat(columns=columns, rows=12, term=term)
    chat.wait(prompts(1))
    chat.send("go" + ENTER)
    chat.wait("word12")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    chat.wait(prompts(2))
    chat.send("/help" + ENTER)
    chat.wait("/system")
    chat.wait(prompts(3))
    if term == "dumb":
        assert b"\x1b" not in chat.raw
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    assert saved()[0] == ("user", "go")


def test_in_a_dumb_terminal_a_bare_newline_sends(open_chat: Open, saved: Callable[[], list[tuple[str, str]]]) -> None:
    """The shell window of an editor sends no carriage return; the line stayed in the prompt for ever."""
    chat = open_chat(columns=80, rows=12, term="dumb")
    chat.wait(prompts(1))
    chat.send("go\n")
    chat.wait("word12")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    assert saved()[0] == ("user", "go")


def test_a_paste_of_200_lines_is_one_message(open_chat: Open, saved: Callable[[], list[tuple[str, str]]]) -> None:
    pasted = "\n".join(f"\tline {n}" for n in range(200))
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("\x1b[200~" + pasted.replace("\n", "\r") + "\x1b[201~")
    chat.wait("> [pasted 200 lines]")
    assert saved() == []
    chat.send(ENTER)
    chat.wait("word2")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    assert saved()[0] == ("user", pasted)


def test_chinese_is_typed_mended_and_answered(open_chat: Open, saved: Callable[[], list[tuple[str, str]]]) -> None:
    chat = open_chat(columns=20)
    for turn, text in enumerate(["你好", "北京", "介绍一下你自己吧朋友x\x7f"], 1):
        chat.wait(prompts(turn))
        chat.send(text + ENTER)
        chat.wait("word2" if turn == 1 else "answer." if turn == 2 else "你好，北")
        if turn == 1:
            chat.send(CTRL_C)
    chat.wait(prompts(4))
    assert [text for role, text in saved() if role == "user"] == ["你好", "北京", "介绍一下你自己吧朋友"]
    assert saved()[-1] == ("assistant", "你好，北京是中国的首都。")


def test_bytes_that_are_no_text_do_not_end_the_chat(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]]
) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.child.send(b"caf\xe9 au lait\r")
    chat.wait("word2")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    question = saved()[0][1]
    assert question.startswith("caf")
    assert question.endswith(" au lait")


def test_errors_are_a_sentence_and_the_question_is_offered_again(open_chat: Open) -> None:
    chat = open_chat()
    for turn, answer in enumerate(["word2", "Second", "你好", "Half an"], 1):
        chat.wait(prompts(turn))
        chat.send(f"question {turn}" + ENTER)
        chat.wait(answer)
        if turn == 1:
            chat.send(CTRL_C)
    chat.wait("chatcli: The engine broke; ask again.")
    assert "Half an\n" in chat.text
    chat.wait(prompts(5))
    chat.send("question 5" + ENTER)
    chat.wait("broke at once")
    chat.wait(lambda text: text.count("> question 5") == 2)
    chat.send(ENTER)
    chat.wait("Sixth answer.")


def test_the_first_question_waits_for_the_model(open_chat: Open) -> None:
    chat = open_chat("--load")
    chat.wait("loading")
    chat.wait("owner/slow-model")
    chat.send("early" + ENTER)
    chat.let("loaded")
    chat.wait("word2")


def test_ctrl_c_while_loading_stops_the_wait_and_offers_the_question_again(open_chat: Open) -> None:
    chat = open_chat("--load")
    chat.wait(prompts(1))
    chat.send("early" + ENTER)
    chat.wait("> early\nloading")  # below the question: before it is sent, the toolbar says so, too
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    chat.wait(lambda text: text.count("> early") == 2)
    chat.send(CTRL_C)
    chat.send(CTRL_C)
    chat.wait("Ctrl-C again leaves")
    chat.send(CTRL_C)
    assert chat.exit_code() == 0


def test_a_model_that_cannot_be_loaded_ends_the_chat_at_once(open_chat: Open, tmp_path: Path) -> None:
    chat = open_chat("--fail")
    chat.wait(prompts(1))
    chat.send("half a thought")
    chat.wait("> half a thought")
    chat.let("loaded")
    assert chat.exit_code() == 3
    assert "chatcli: There is no model owner/slow-model" in chat.text
    assert "half a thought" in (tmp_path / "state" / "input_history").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("replying", [False, True])
def test_a_signal_to_leave_saves_and_restores_the_terminal(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]], number: signal.Signals, replying: bool
) -> None:
    chat = open_chat()
    before = termios.tcgetattr(chat.child.child_fd)
    chat.wait(prompts(1))
    chat.send("tell me" + ENTER if replying else "tell me")
    chat.wait("word5" if replying else "> tell me")
    chat.child.kill(number)
    assert chat.exit_code() == 128 + number
    assert not replying or "word5" in saved()[1][1]
    assert b"\x1b[?2004h" in chat.raw
    assert chat.raw.rindex(b"\x1b[?2004l") > chat.raw.rindex(b"\x1b[?2004h")  # bracketed paste is off again
    after = termios.tcgetattr(chat.child.child_fd)
    assert after[3] & (termios.ECHO | termios.ICANON) == before[3] & (termios.ECHO | termios.ICANON)


def _has_a_signal(pid: int) -> bool:
    """Whether a signal has been sent to a process that has not come to it yet."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(told["SigPnd"], 16) | int(told["ShdPnd"], 16))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of signals on their way")
def test_a_second_ctrl_c_leaves_an_engine_that_does_not_listen(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]], tmp_path: Path
) -> None:
    chat = open_chat("--stuck")
    chat.wait(prompts(1))
    chat.send("go" + ENTER)
    chat.wait("A first piece")
    chat.wait(lambda text: (tmp_path / "stuck").exists())
    chat.child.kill(signal.SIGINT)  # two keys at once may come to one signal
    process = psutil.Process(chat.child.pid)
    chat.wait(lambda text: not _has_a_signal(chat.child.pid) and process.status() == psutil.STATUS_SLEEPING)
    assert chat.child.isalive()
    chat.send(CTRL_C)
    assert chat.exit_code() == 130
    assert saved() == [("user", "go"), ("assistant", "A first piece and a second")]


def test_a_dumb_terminal_is_told_in_lines_what_a_toolbar_would_show(
    open_chat: Open, saved: Callable[[], list[tuple[str, str]]]
) -> None:
    chat = open_chat("--load", term="dumb")
    chat.wait(prompts(1))
    chat.send("wrong")
    chat.wait("> wrong")
    chat.send(CTRL_C)
    chat.wait("> wrong\n>")
    chat.send("early" + ENTER)
    chat.wait(lambda text: saved() == [("user", "early")])
    chat.send(CTRL_C)
    for shown in ("[stopped]\n\n> early", "[stopped]\n\n> early\n>", "Ctrl-C again leaves"):
        chat.wait(lambda text, shown=shown: shown in text and chat.reads_keys)  # type: ignore[misc]
        chat.send(CTRL_C)
    assert chat.exit_code() == 0
    assert b"\x1b" not in chat.raw


def test_after_ctrl_z_and_fg_keys_are_still_held_back(open_chat: Open) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("go" + ENTER)
    chat.wait("word3")
    modes = termios.tcgetattr(chat.child.child_fd)
    shell = [*modes]
    shell[3] |= termios.ECHO | termios.ICANON
    chat.child.kill(signal.SIGSTOP)
    termios.tcsetattr(chat.child.child_fd, termios.TCSANOW, shell)  # as a shell does with its own
    chat.child.kill(signal.SIGCONT)
    chat.wait(lambda text: termios.tcgetattr(chat.child.child_fd)[3] == modes[3])
    chat.send(CTRL_C)
    chat.wait("[stopped]")
