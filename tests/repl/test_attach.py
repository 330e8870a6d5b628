"""Text files with a message: which a text names, what is refused, what the model and the history see of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.conversation import Attachment, Conversation
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.errors import EngineError, UsageError
from chatcli.generation import EngineFacts, GenerationSettings
from chatcli.history.export import export
from chatcli.history.store import Store
from chatcli.repl.attach import attach_again, described, files_with, mentioned, read_file, require_short
from chatcli.repl.commands import COMMANDS
from chatcli.repl.state import Chat
from chatcli.session import Session


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("notes.md", "my notes.md", "src.py", "笔记.md", "home/a.txt", "Makefile"):
        Path(name).write_text("Buy milk.\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def chat(environment: Environment, folder: Path) -> Iterator[Chat]:
    with closing(Store.in_memory()) as store:
        yield Chat(Session(ScriptedEngine(["Fine.", [EngineError("broke")]]), GenerationSettings(), store), environment)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@notes.md", ["notes.md"]),
        ("see @notes.md, @src.py.", ["notes.md", "src.py"]),
        ("(@notes.md)", ["notes.md"]),
        ("@notes.md?!", ["notes.md"]),
        ('@"my notes.md" and @"notes.md"', ["my notes.md", "notes.md"]),
        ("总结@notes.md的内容", ["notes.md"]),
        ("总结@笔记.md。", ["笔记.md"]),
        ("@~/a.txt", ["~/a.txt"]),
        ("@./notes.md @./notes.md", ["./notes.md"]),
        ("write to me@notes.md", []),
        ("@notes.mdx @notes.md.bak @notes", []),
        ("@home @nobody @ @@", []),
        ("@" + "x" * 100_000, []),
        ("@a\0b", []),
    ],
)
def test_only_names_of_files_are_taken_for_such(folder: Path, text: str, names: list[str]) -> None:
    assert list(mentioned(text)) == names


def test_a_file_becomes_a_line_for_people_and_a_fence_for_the_model(folder: Path) -> None:
    engine = ScriptedEngine([])
    attachment = read_file("notes.md", engine)
    assert described(attachment, engine) == "notes.md, 5 tokens"
    assert attachment.fenced == "notes.md:\n```md\nBuy milk.\n```"
    assert read_file("Makefile", engine).fenced.startswith("Makefile:\n```\n")


def test_a_fence_is_longer_than_those_in_the_file() -> None:
    assert Attachment("a.md", 9, "", "````py\nx\n````\n").fenced == "a.md:\n`````md\n````py\nx\n````\n`````"


class Small(ScriptedEngine):
    facts = EngineFacts("small", context=4)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.bin", b"a\0b", "a.bin is binary"),
        ("a.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("a.txt", b" \n", "a.txt is empty"),
        ("a.txt", b"one two three four", "has 7 tokens, and the model's context holds 4"),
        ("a.txt", b"x" * 2000, "larger than 1,024 bytes"),
        ("home", None, "is a folder"),
        ("/dev/zero", None, "is a device"),
        ("none.txt", None, "No such file"),
        ("a\0b", None, "cannot be read"),
    ],
)
def test_what_cannot_go_with_a_message_is_refused(folder: Path, name: str, data: bytes | None, sentence: str) -> None:
    if data is not None:
        Path(name).write_bytes(data)
    with pytest.raises(UsageError, match=sentence):
        read_file(name, Small([]))


def test_a_message_that_no_context_holds_is_refused_uncounted() -> None:
    require_short("x" * 1024, Small([]))
    with pytest.raises(UsageError, match="1,025 characters"):
        require_short("x" * 1025, Small([]))


def test_the_model_reads_the_file_and_the_history_names_it(chat: Chat) -> None:
    session = chat.session
    list(session.say("Sum up @notes.md", files_with(chat, "Sum up @notes.md")))
    asked: Conversation = session.engine.asked[-1]  # type: ignore[attr-defined]
    assert asked.messages[-1].text == "notes.md:\n```md\nBuy milk.\n```\n\nSum up @notes.md"
    (question, _) = session.stored().messages
    assert (question.text, [each.name for each in question.attachments]) == ("Sum up @notes.md", ["notes.md"])
    assert session.stored().title == "Sum up @notes.md"
    written = export(session.stored(), "md")
    assert "Attached: notes.md (10 bytes)" in written and "Buy milk" not in written
    session.resume(session.id)
    with pytest.raises(EngineError):
        list(session.retry())
    assert session.engine.asked[-1] == asked  # type: ignore[attr-defined]


def test_file_attaches_to_the_next_message_and_a_dash_takes_it_back(chat: Chat) -> None:
    file = COMMANDS["file"].run
    file(chat, "my notes.md")
    file(chat, '"my notes.md"')
    assert [each.name for each in files_with(chat, 'and @notes.md, @"my notes.md"')] == ["my notes.md", "notes.md"]
    file(chat, "-")
    assert files_with(chat, "") == []
    with pytest.raises(UsageError, match="No such file"):
        file(chat, "none.md")
    assert "my notes.md, 6 tokens\nIt goes with the next message.\n" in chat.environment.stdout.getvalue()  # type: ignore[attr-defined]


def test_a_question_without_an_answer_keeps_its_files(chat: Chat) -> None:
    session = chat.session
    list(session.say("first"))
    COMMANDS["file"].run(chat, "src.py")
    with pytest.raises(EngineError):
        list(session.say("And @notes.md?", files_with(chat, "And @notes.md?")))
    chat.attached.clear()
    attach_again(chat, session.question)
    assert [each.name for each in chat.attached] == ["src.py"]
    session.resume(session.id)
    assert session.question and [each.name for each in session.question.attachments] == ["src.py", "notes.md"]
    COMMANDS["undo"].run(chat, "")
    assert chat.attached == []
