"""The facts and the CLI say the same: nothing that does not exist, nothing left out."""

from __future__ import annotations

from collections import Counter

import pytest

from chatcli.cli.main import surface
from chatcli.guide.facts import LANGUAGES, load, names_in, unknown_names
from chatcli.repl.commands import NAMES

SLASH = frozenset(NAMES)
ANSWERS = [(fact.id, language, fact.answer[language]) for fact in load().facts for language in LANGUAGES] + [
    ("unknown", language, text) for language, text in load().unknown.items()
]


@pytest.mark.parametrize(("fact", "language", "answer"), ANSWERS, ids=[f"{f}-{lang}" for f, lang, _ in ANSWERS])
def test_every_name_in_an_answer_exists(fact: str, language: str, answer: str) -> None:
    assert not unknown_names(answer, surface(), SLASH)


def test_every_command_and_option_has_a_fact() -> None:
    covered = {name for fact in load().facts for name in fact.covers}
    assert not surface() - covered
    assert not {f"/{name}" for name in SLASH} - covered


def test_what_facts_cover_exists() -> None:
    commands = {name for fact in load().facts for name in fact.covers if name.startswith(("chatcli", "/"))}
    assert not commands - surface() - {f"/{name}" for name in SLASH}


def test_a_name_belongs_to_one_fact() -> None:
    counts = Counter(name for fact in load().facts for name in fact.covers)
    assert [name for name, count in counts.items() if count > 1] == []


def test_both_languages_name_the_same_things() -> None:
    for fact in load().facts:
        english, chinese = (names_in(fact.answer[language], surface()) for language in LANGUAGES)
        assert english == chinese, fact.id


def test_every_fact_can_be_asked_for_in_both_languages() -> None:
    for fact in load().facts:
        for language in LANGUAGES:
            assert fact.do[language] or fact.ask[language], (fact.id, language)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("`chatcli run --top-p 0.9` and `/undo`", set()),
        ("`chatcli run Qwen/Qwen3-0.6B`, then `chatcli run glm`", set()),
        ('`git diff | chatcli ask "write the commit message"`', set()),
        ("chatcli talks to models in ~/.cache/huggingface; `pip install -U chatcli`", set()),
        ("`chatcli history show ID` and `chatcli history --limit 3`", set()),
        ("`chatcli run --help`", set()),
        ("`chatcli fly`", {"chatcli fly"}),
        ("`chatcli history purge`", {"chatcli history purge"}),
        ("`chatcli run --speed 3`", {"chatcli run --speed"}),
        ("use --speed or /fly", {"--speed", "/fly"}),
        ("`chatcli tokens --top-p 1`", {"chatcli tokens --top-p"}),
    ],
)
def test_unknown_names_are_found(text: str, unknown: set[str]) -> None:
    assert unknown_names(text, surface(), SLASH) == unknown
