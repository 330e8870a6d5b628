"""Typing in a real terminal: whole screens of pastes, the editor, Esc, windows that change, a first message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from terminal import Terminal

from chatcli.history.store import Store

CTRL_C, CTRL_D, CTRL_O, CTRL_R, CTRL_U, ENTER, ESC = "\x03", "\x04", "\x0f", "\x12", "\x15", "\r", "\x1b"
BACKSPACE, UP, TAB = "\x7f", "\x1b[A", "\t"
LINES = "\n".join(f"line {n}" for n in range(1, 201))
GREETING = "chatcli 0.1.0, scripted. /help lists the commands, Ctrl-D leaves."
Open = Callable[..., Terminal]
Saved = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def open_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    opened: list[Terminal] = []
    monkeypatch.chdir(tmp_path)

    def opening(*arguments: str, **options: object) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        opened[-1].wait(prompts(1))
        return opened[-1]

    yield opening
    for each in opened:
        each.close()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def read() -> list[tuple[str, str]]:
        with closing(Store.open(tmp_path / "data" / "history.db")) as store:
            latest = next((summary.id for summary in store.recent(1)), None)
            return [(m.role, m.text) for m in store.load(latest).messages] if latest else []

    return read


@pytest.fixture
def editor(tmp_path: Path) -> str:
    """An editor that puts a line before the text, as long as there is no file named broken."""
    file = tmp_path / "editor"
    file.write_text('#!/bin/sh\ntest -e broken && exit 1\n{ echo "edited:"; cat "$1"; } > new && mv new "$1"\n')
    file.chmod(0o755)
    return str(file)


def prompts(count: int) -> Callable[[str], bool]:
    return lambda text: sum(line.startswith(">") for line in text.split("\n")) >= count


def pasted(text: str) -> str:
    return f"\x1b[200~{text.replace(chr(10), ENTER)}\x1b[201~"


def screen(chat: Terminal) -> list[str]:
    """The rows that show something, but the toolbar."""
    rows = [row.rstrip() for row in chat.screen.display]
    return [row for row in rows[:-1] if row]


def settled(chat: Terminal, rows: list[str]) -> None:
    """Wait until just these rows are on the screen."""
    chat.wait(lambda text: screen(chat) == rows)


def test_a_paste_of_200_lines_is_one_line_and_is_sent_whole(open_chat: Open, saved: Saved) -> None:
    chat = open_chat()
    chat.send("Sum up: " + pasted(LINES) + " Thanks.")
    settled(chat, [GREETING, "> Sum up: [pasted 200 lines] Thanks."])
    chat.send(ENTER)
    chat.wait("word2")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    assert saved()[0] == ("user", f"Sum up: {LINES} Thanks.")
    chat.send(UP + BACKSPACE * 8)
    chat.wait(lambda text: text.count("> Sum up: [pasted 200 lines]") == 2)
    chat.send(BACKSPACE)
    chat.wait(lambda text: text.rstrip().split("\n")[-1].startswith(" scripted") and "> Sum up:\n" in text)


def test_ten_megabytes_neither_hang_nor_run(open_chat: Open, saved: Saved) -> None:
    text = ("x" * 79 + "\n") * 131_072
    chat = open_chat()
    chat.send(pasted(text))
    settled(chat, [GREETING, "> [pasted 131,072 lines]"])
    assert saved() == []
    chat.send(" What is it?" + ENTER)
    chat.wait("The message has 10,485,772 characters, and the model's context holds\n4,096 tokens: shorten it.")
    chat.wait(lambda found: found.count("> [pasted 131,072 lines] What is it?") == 2)
    chat.send(CTRL_U + "still here?" + ENTER)
    chat.wait("word2")
    assert saved()[0] == ("user", "still here?")


def test_a_paste_while_a_reply_streams_is_one_line_at_the_prompt(open_chat: Open) -> None:
    chat = open_chat()
    chat.send("go" + ENTER)
    chat.wait("word3")
    chat.send("see " + pasted(LINES))
    chat.wait("word9")
    assert "line" not in chat.text
    chat.send(ESC)
    chat.wait("[stopped]")
    chat.wait("> see [pasted 200 lines]")


def test_esc_stops_a_reply_and_keeps_what_was_typed_but_an_arrow_does_not(open_chat: Open, saved: Saved) -> None:
    chat = open_chat()
    chat.send("go" + ENTER)
    chat.wait("word3")
    chat.send("nexd" + "\x1b[D" + "\x1b[C" + BACKSPACE + "t")
    chat.wait("word12")
    assert "stopped" not in chat.text
    chat.send(ESC)
    chat.wait("[stopped]")
    chat.wait("> next")
    assert saved()[1][1] in "".join(chat.text.split("> go\n")[1].split("\n[stopped]")[0].replace("\n", " ") + " ")
    chat.send(ENTER)
    chat.wait("Second answer.")
    chat.wait(prompts(3))
    assert [text for role, text in saved() if role == "user"] == ["go", "next"]


def test_ctrl_o_opens_the_editor_and_a_broken_one_changes_nothing(
    open_chat: Open, saved: Saved, editor: str, tmp_path: Path
) -> None:
    chat = open_chat(EDITOR=editor)
    chat.send("Look: " + pasted(LINES) + CTRL_O)
    settled(chat, [GREETING, "> edited:", "  Look: [pasted 200 lines]"])
    (tmp_path / "broken").touch()
    chat.send(CTRL_O)
    chat.wait("chatcli: editor failed with exit code 1; the text stays as it was.")
    chat.wait(lambda text: "> edited:\n  Look: [pasted 200 lines]\n" in text)
    chat.send(ENTER)
    chat.wait("word2")
    assert saved()[0] == ("user", f"edited:\nLook: {LINES}")


def test_edit_opens_the_last_question_in_the_editor(open_chat: Open, saved: Saved, editor: str) -> None:
    chat = open_chat(EDITOR=editor)
    chat.send("first" + ENTER)
    chat.wait("word3")
    chat.send(CTRL_C)
    chat.wait(prompts(2))
    chat.send("/edit" + ENTER)
    chat.wait("> edited:\n  first")
    chat.send(ENTER)
    chat.wait("Second answer.")
    assert saved() == [("user", "edited:\nfirst"), ("assistant", "Second answer.")]


@pytest.mark.parametrize("columns", [80, 20])
def test_a_block_is_typed_over_several_lines(open_chat: Open, saved: Saved, columns: int) -> None:
    chat = open_chat(columns=columns)
    chat.send('"""' + ENTER + "/help 你好" + ENTER + ENTER + "end" + ENTER + '"""')
    chat.wait(lambda text: text.count('"""') == 2 and "\n\n  end\n" in text)
    assert saved() == []
    chat.send(ENTER)
    chat.wait("word2")
    assert saved()[0] == ("user", "/help 你好\n\nend")


def test_a_window_that_changes_while_one_types_shows_the_line_once(open_chat: Open) -> None:
    chat = open_chat()
    chat.send("hello " + pasted(LINES))
    chat.wait("> hello [pasted 200 lines]")
    chat.resize(20, 24)
    chat.send(" there")
    chat.wait(lambda text: screen(chat)[-2:] == ["> hello [pasted 200", "  lines] there"])
    assert chat.text.count("> hello") == 1


def test_files_are_completed_attached_and_named_in_twenty_columns(
    open_chat: Open, saved: Saved, tmp_path: Path
) -> None:
    (tmp_path / "笔记.md").write_text("Milch und Brot\n", encoding="utf-8")
    (tmp_path / "bild.png").write_bytes(b"\x89PNG\0")
    chat = open_chat(columns=20, rows=10)
    chat.send("总结@笔" + TAB + ENTER)
    chat.wait("tokens\nword1")
    assert "笔记.md, 6 tokens\n" in chat.text
    chat.send(ESC)
    chat.wait("[stopped]")
    chat.send("/file bi" + TAB + ENTER)
    chat.wait("binary")
    assert saved()[0] == ("user", "总结@笔记.md")


def test_earlier_input_of_another_chat_is_searched(open_chat: Open) -> None:
    first = open_chat()
    first.send("tell me of Rome" + ENTER)
    first.wait("word2")
    second = open_chat()
    second.send(CTRL_R + "Rome")
    second.wait("> tell me of Rome")
    second.send(ENTER + ENTER)
    second.wait("word2")


def test_a_dumb_terminal_takes_blocks_too(open_chat: Open, saved: Saved) -> None:
    chat = open_chat(term="dumb")
    for line in ('"""', "a", "b", '"""'):
        ended = chat.raw.count(b"\r\n")
        chat.send(line + ENTER)
        chat.wait(lambda text, ended=ended: chat.raw.count(b"\r\n") > ended)  # type: ignore[misc]
    chat.wait("word2")
    chat.send(CTRL_C)
    chat.wait("[stopped]")
    assert saved()[0] == ("user", "a\nb")
    assert b"\x1b" not in chat.raw


@pytest.mark.slow
def test_piped_text_and_a_prompt_are_said_first_and_keys_come_from_the_terminal(tmp_path: Path, saved: Saved) -> None:
    script = f"printf 'What is chatcli?\\nReally?\\n' | {sys.executable} -m chatcli run guide -p 'Say it in short.'"
    chat = Terminal(tmp_path, command=("sh", "-c", script))
    chat.wait("> [piped 2 lines] Say it in short.")
    chat.wait(prompts(2))
    chat.send("and now?" + ENTER)
    chat.wait(prompts(3))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    assert [text for role, text in saved() if role == "user"] == [
        "What is chatcli?\nReally?\n\nSay it in short.",
        "and now?",
    ]
    chat.close()
