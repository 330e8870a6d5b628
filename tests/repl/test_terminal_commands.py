"""Slash commands in a real terminal: another model, branch and back, going on after Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from scripted_chat import CHINESE, words
from terminal import Terminal

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
Open = Callable[..., Terminal]
Saved = Callable[[], list[tuple[str, str]]]


def prompts(count: int) -> Callable[[str], bool]:
    return lambda text: sum(line.startswith(">") for line in text.split("\n")) >= count


def type_line(chat: Terminal, line: str, wanted: str | Callable[[str], bool]) -> None:
    """Send a line when the prompt is there and empty, and wait for what comes of it and the next prompt."""
    chat.wait(lambda text: next((row for row in reversed(text.split("\n")) if row.startswith(">")), "").strip() == ">")
    before = sum(text.startswith(">") for text in chat.text.split("\n"))
    chat.send(line + ENTER)
    chat.wait(wanted)
    chat.wait(prompts(before + 1))


def last_row(chat: Terminal) -> str:
    return next(row.rstrip() for row in reversed(chat.screen.display) if row.strip())


def test_a_chinese_reply_stopped_in_the_middle_goes_on_in_the_same_message(open_chat: Open, saved: Saved) -> None:
    chat = open_chat("--chinese", columns=60)
    chat.wait(prompts(1))
    chat.send("北京？" + ENTER)
    chat.wait(lambda text: text.count("首都") >= 3)
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    chat.wait(prompts(2))
    (_, cut) = saved()[1]
    assert CHINESE.startswith(cut) and cut != CHINESE
    chat.let("enough")
    chat.send("/continue" + ENTER)
    chat.wait(prompts(3))
    assert saved() == [("user", "北京？"), ("assistant", CHINESE)]
    assert "�" not in chat.text
    type_line(chat, "/continue", "The reply is complete")
    chat.send(CTRL_D)
    assert chat.exit_code() == 0


def test_another_answer_and_back_again(open_chat: Open, saved: Saved) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("first" + ENTER)
    chat.wait("word3")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    chat.wait(prompts(2))
    type_line(chat, "/retry temperature=1.5", "Second answer.")
    assert saved() == [("user", "first"), ("assistant", "Second answer.")]
    type_line(chat, "/branch", "* 2  ")
    type_line(chat, "/branch 1", "The talk goes on from branch 1.")
    assert saved()[1][1].startswith("word1 word2 word3")
    type_line(chat, "/branch 2", "The talk goes on from branch 2.")
    assert saved()[1] == ("assistant", "Second answer.")


def test_another_model_goes_on_and_one_that_is_not_there_changes_nothing(open_chat: Open, saved: Saved) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("first" + ENTER)
    chat.wait("word3")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    chat.wait(lambda text: " scripted  none text" in last_row(chat))
    chat.send("/model other" + ENTER)
    chat.wait("other loads while you type")
    chat.send("and you?" + ENTER)
    chat.let("loaded")
    chat.wait("The other model speaks.")
    chat.wait(lambda text: last_row(chat).startswith(" other  cpu float32"))
    type_line(chat, "/model broken", "other stays.")
    assert "There is no model broken" in chat.text
    answer = "The other model speaks."
    type_line(chat, "still there?", lambda text: text.count(answer) == 2)
    assert [text for _, text in saved()][2:] == ["and you?", answer, "still there?", answer]


def test_a_question_that_waits_for_a_model_that_fails_is_offered_again(open_chat: Open) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("/model broken" + ENTER + "are you there?" + ENTER)
    chat.wait("> are you there?\nloading")
    chat.let("loaded")
    chat.wait("scripted stays.")
    chat.wait(lambda text: text.rstrip().split("\n")[-2:] and text.count("> are you there?") == 2)
    chat.send(ENTER)
    chat.wait("word3")


def test_edit_puts_the_question_back_into_the_line(open_chat: Open, saved: Saved) -> None:
    chat = open_chat(EDITOR="true")  # one that changes nothing
    chat.wait(prompts(1))
    chat.send("frist" + ENTER)
    chat.wait("word3")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    chat.send("/edit" + ENTER)
    chat.wait(lambda text: text.count("> frist") == 2)
    chat.send("\x7f" * 5 + "second" + ENTER)
    chat.wait("Second answer.")
    chat.wait(prompts(4))
    assert saved() == [("user", "second"), ("assistant", "Second answer.")]


@pytest.mark.parametrize(("columns", "term"), [(20, "xterm"), (80, "dumb")])
def test_commands_in_a_small_and_a_dumb_terminal(open_chat: Open, saved: Saved, columns: int, term: str) -> None:
    chat = open_chat(columns=columns, rows=12, term=term)
    chat.wait(prompts(1))
    chat.send("go" + ENTER)
    chat.wait("word2")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    chat.wait(prompts(2))
    if term != "dumb":
        chat.wait(lambda text: "scripted" in last_row(chat))
    for command, wanted in [("/stats", "ended by: you"), ("/set", "overflow"), ("/branch", "* 1"), ("/history", "go")]:
        type_line(chat, command, lambda text, wanted=wanted: wanted in " ".join(text.split()))  # type: ignore[misc]
    stopped = saved()[1][1]
    chat.send("/continue" + ENTER)
    chat.wait(lambda text: f"word{len(stopped.split()) + 20}" in text.replace("\n", ""))
    chat.let("enough")
    chat.wait(prompts(7))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    role, whole = saved()[1]
    assert (role, whole) == ("assistant", words(len(whole.split())))
    assert chat.text.replace("\n", "").count(whole.split()[-1]) == 1
    if term == "dumb":
        assert b"\x1b" not in chat.raw


def test_a_window_that_closes_while_a_reply_goes_on_keeps_what_was_shown(open_chat: Open, saved: Saved) -> None:
    chat = open_chat()
    chat.wait(prompts(1))
    chat.send("go" + ENTER)
    chat.wait("word3")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    stopped = saved()[1][1]
    chat.send("/continue" + ENTER)
    chat.wait(lambda text: len(text.split("word")) > len(stopped.split("word")) + 5)
    chat.child.kill(signal.SIGHUP)
    assert chat.exit_code() == 128 + signal.SIGHUP
    role, text = saved()[1]
    assert len(saved()) == 2 and role == "assistant"
    assert len(text) > len(stopped) and text == words(len(text.split()))
