"""What the prompt completes: commands, what stands behind them, settings and their values, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from chatcli.repl.commands.table import Completes
from chatcli.repl.completion import Completions, fitting

WORDS: dict[Completes, list[tuple[str, str]]] = {
    "models": [("guide", "the built-in guide"), ("Qwen/Qwen3-0.6B", "on this machine")],
    "talks": [("3fa8wqrstvxz", "Rome in spring"), ("9abcdefghjkm", "总结笔记")],
    "settings": [("temperature", "a number from 0 up"), ("overflow", ""), ("seed", ""), ("think", "")],
    "commands": [("set", "Show the settings"), ("search", "Find")],
}


def words(what: Completes) -> list[tuple[str, str]]:
    return [(each, "") for each in what] if isinstance(what, tuple) else WORDS.get(what, [])


def completed(before: str) -> list[str]:
    """The whole texts that the text before the cursor may become."""
    found = Completions(words).get_completions(Document(before), CompleteEvent())
    return [before[: len(before) + each.start_position] + each.text for each in found]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.md", "my notes.md", "笔记.md", ".hidden", "src/a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/se", ["/set", "/search"]),
        ("/SE", ["/set", "/search"]),
        ("/by", ["/bye"]),
        ("/help s", ["/help set", "/help search"]),
        ("/think ", ["/think on", "/think off", "/think default"]),
        ("/model qwen", ["/model Qwen/Qwen3-0.6B"]),
        ("/model 0.6", ["/model Qwen/Qwen3-0.6B"]),
        ("/r 3f", ["/r 3fa8wqrstvxz"]),
        ("/resume spring", ["/resume 3fa8wqrstvxz"]),
        ("/history 笔", ["/history 9abcdefghjkm"]),
        ("/set temp", ["/set temperature"]),
        ("/set overflow ", ["/set overflow stop", "/set overflow drop-oldest"]),
        ("/set overflow=d", ["/set overflow=drop-oldest"]),
        ("/set seed ", []),
        ("/retry seed=5 think=", ["/retry seed=5 think=on", "/retry seed=5 think=off"]),
        ("/retry seed=5 te", ["/retry seed=5 temperature"]),
        ("/undo ", []),
        ("/nothing x", []),
        ("/save n", ["/save notes.md"]),
        ("/file my", ["/file my notes.md"]),
        ("/file src/", ["/file src/a.py"]),
        ("/load .h", ["/load .hidden"]),
        ("look @no", ["look @notes.md"]),
        ("look @m", ['look @"my notes.md"']),
        ('look @"my n', ['look @"my notes.md"']),
        ("总结@笔", ["总结@笔记.md"]),
        ("one\n@s", ["one\n@src/"]),
        ("@src/", ["@src/a.py"]),
        ("@", ['@"my notes.md"', "@notes.md", "@src/", "@笔记.md"]),
        ("me@no", []),
        ("hello", []),
        ("", []),
        ("hello\n/se", []),
        ("@nowhere/", []),
        ("@~nobody/", []),
    ],
)
def test_what_may_follow(before: str, after: list[str]) -> None:
    assert completed(before) == after


def test_what_begins_so_comes_before_what_has_it_elsewhere() -> None:
    every = [("a-set", ""), ("set", ""), ("x", "to set"), ("y", "")]
    assert [word for word, _ in fitting(every, "set")] == ["set", "a-set", "x"]
    assert [word for word, _ in fitting(every, "")] == ["a-set", "set", "x", "y"]


def test_a_talk_is_shown_by_its_title() -> None:
    (found,) = Completions(words).get_completions(Document("/resume 9a"), CompleteEvent())
    assert (found.display_text, found.display_meta_text, found.text) == ("总结笔记", "9abcdefghjkm", "9abcdefghjkm")


def test_words_are_asked_for_once_until_the_next_line() -> None:
    asked: list[Completes] = []

    def ask(what: Completes) -> list[tuple[str, str]]:
        asked.append(what)
        return words(what)

    completions = Completions(ask)
    for before in ("/model q", "/model qw"):
        list(completions.get_completions(Document(before), CompleteEvent()))
    assert asked == ["models"]
    completions.refresh()
    list(completions.get_completions(Document("/model q"), CompleteEvent()))
    assert asked == ["models", "models"]
