"""What the guide is trained on: the same for a seed, and free of the questions it is measured with."""

from __future__ import annotations

import itertools
import random
import re
import sys
from pathlib import Path

from chatcli.guide import corpus, facts
from chatcli.guide.facts import LANGUAGES, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GOLDEN = Path(__file__).parents[1] / "golden"
QUESTIONS = {
    name: rows
    for path in (GOLDEN / "guide_questions.toml", GOLDEN / "guide_questions_new.toml")
    for name, rows in tomllib.loads(path.read_text(encoding="utf-8")).items()
}
HELD_OUT = frozenset(
    corpus.normalised(entry if kind == "off" else entry[0])
    for name in ("dev", "test", "new")
    for kind, entries in QUESTIONS[name].items()
    for entry in entries
)


def first(count: int, seed: int, held_out: frozenset[str] = frozenset()) -> list[corpus.Pair]:
    return list(itertools.islice(corpus.pairs(seed, held_out), count))


def test_a_seed_makes_the_same_pairs() -> None:
    assert first(3000, 7) == first(3000, 7)
    assert first(3000, 7) != first(3000, 8)


def test_no_held_out_question_is_trained_on() -> None:
    seen = {corpus.normalised(pair.question) for pair in first(60_000, 20, HELD_OUT)}
    assert not seen & HELD_OUT


def test_no_held_out_question_is_a_frame_around_a_fixed_phrase() -> None:
    """Patterns without choices, in every frame: what sampling might have missed."""
    for fact in load().facts:
        for language in LANGUAGES:
            fixed = [p for p in (*fact.do[language], *fact.ask[language]) if not set(p) & set("([%")]
            framed = [frame.format(p) for p in fixed for frame in (*corpus.DO_FRAMES[language], "{}")]
            found = {corpus.normalised(text) for text in framed} & HELD_OUT
            assert not found, (fact.id, found)


def test_every_fact_that_is_taught_and_the_unknown_are_asked_for_often() -> None:
    counts = {fact.id: 0 for fact in load().facts if fact.taught} | {"unknown": 0}
    for pair in first(30_000, 1):
        counts[pair.fact] += 1  # a KeyError is a fact that is not taught, and answered
    assert min(counts.values()) > 100
    assert 0.25 < counts["unknown"] / 30_000 < 0.4


def test_who_asks_for_what_is_not_taught_is_told_that_it_is_unknown() -> None:
    unknown = {corpus.normalised(pair.question) for pair in first(60_000, 1) if pair.fact == "unknown"}
    many = {fact.id: fact.said["en"] for fact in load().facts if not fact.taught and len(fact.said["en"]) >= 10}
    assert len(many) > 20
    missed = [name for name, said in many.items() if not unknown & {corpus.normalised(each) for each in said}]
    assert not missed


def test_only_facts_that_there_are_can_be_untaught() -> None:
    data = tomllib.loads(Path(facts.__file__).with_name("facts.toml").read_text(encoding="utf-8"))
    assert set(data["untaught"]) <= {row["id"] for row in data["fact"]}


def test_the_answer_is_in_the_language_of_the_question() -> None:
    for pair in first(5000, 3):
        if any("\u4e00" <= character <= "\u9fff" for character in pair.question):
            assert any("\u4e00" <= character <= "\u9fff" for character in pair.answer), pair


def test_a_conversation_alternates() -> None:
    said = corpus.conversation(random.Random(1), corpus.pairs(1), 3)
    roles = [role for role, _ in said if role != "system"]
    assert roles == ["user", "assistant"] * 3


def test_patterns_are_whole() -> None:
    """Brackets in pairs, every %word in the tables: else a mark of the pattern would end up in a question."""
    for fact in load().facts:
        for language in LANGUAGES:
            words = load().words[language]
            for pattern in (*fact.do[language], *fact.ask[language]):
                assert pattern.count("(") == pattern.count(")"), (fact.id, pattern)
                assert pattern.count("[") == pattern.count("]"), (fact.id, pattern)
                for name in re.findall(r"%([a-z]+)", pattern):
                    assert any(name.startswith(word) for word in words), (fact.id, pattern)


def test_every_measured_question_can_be_answered_right() -> None:
    """Some fact says one of the names that are expected: else the question outlived its answer."""
    for rows in QUESTIONS.values():
        for language in LANGUAGES:
            answers = [fact.answer[language] for fact in load().facts]
            for question, *names in rows[language]:
                assert any(name in answer for name in names for answer in answers), question


def test_the_measured_sets_are_large_enough() -> None:
    test = QUESTIONS["test"]
    assert len(test["en"]) >= 80
    assert len(test["zh"]) >= 50
    assert len(test["off"]) >= 40
