"""Questions and answers to train the guide on, made from the facts; the same seed makes the same ones.

Knows patterns, frames, noise and chat format; knows no tokenizer and no tensor.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chatcli.guide.facts import Fact, load, questions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SAID = 0.6
"""Share of whole questions among those that are made; the rest comes from patterns."""
FOREIGN, UNTAUGHT = 0.22, 0.13
"""Shares of questions that have nothing to do with chatcli, and that ask for what the model is not taught."""
PLENTY = 30
"""A fact with fewer whole questions is asked for by its patterns more often, lest the few be learned by heart."""

Words = Mapping[str, str]
Pick = Callable[[random.Random], str]

_HERE = Path(__file__).parent
_FRAMES: dict[str, Any] = tomllib.loads((_HERE / "frames.toml").read_text(encoding="utf-8"))
_AROUND: Mapping[str, Mapping[str, list[str]]] = {kind: row for kind, row in _FRAMES.items() if kind != "systems"}
DO_FRAMES: Mapping[str, list[str]] = _AROUND["do"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and its answer; `fact` is the fact's id, or "unknown"."""

    fact: str
    question: str
    answer: str


def normalised(question: str) -> str:
    """The letters and digits of a question in lower case: what makes two questions the same."""
    return "".join(character for character in question.lower() if character.isalnum())


def tidy(text: str) -> str:
    """Single spaces, none before punctuation; lines are kept."""
    text = re.sub(r" +", " ", text)
    return re.sub(r" ([,.!?;:])(?=\s|$)", r"\1", text).strip()


class _Pattern:
    """A pattern with (a|b), [a|b], (a|b)? and %word, read once and sampled often."""

    def __init__(self, text: str, words: Words) -> None:
        self._text, self._words, self._at = text, words, 0
        self.sample = self._choice()

    def _choice(self) -> Pick:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else lambda rng: rng.choice(branches)(rng)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _sequence(self) -> Pick:
        parts: list[Pick] = []
        while (character := self._peek()) and character not in "|)]":
            parts.append(self._part(character))
        return lambda rng: "".join(part(rng) for part in parts)

    def _part(self, character: str) -> Pick:
        self._at += 1
        if character in "([":
            inner = self._choice()
            self._at += 1
            optional = character == "["
            if not optional and self._peek() == "?":
                self._at, optional = self._at + 1, True
            return (lambda rng: inner(rng) if rng.random() < 0.5 else "") if optional else inner
        if character == "%" and (word := re.compile(r"[a-z]+").match(self._text, self._at)):
            name = next((n for n in (word[0][:k] for k in range(len(word[0]), 0, -1)) if n in self._words), "")
            if name:
                self._at += len(name)
                return _pattern(self._words[name], self._words)
        return lambda rng: character


_CACHE: dict[tuple[str, int], Pick] = {}


def _pattern(text: str, words: Words) -> Pick:
    key = (text, id(words))
    if key not in _CACHE:
        _CACHE[key] = _Pattern(text, words).sample
    return _CACHE[key]


@cache
def _offtopic() -> dict[str, Any]:
    return tomllib.loads((_HERE / "offtopic.toml").read_text(encoding="utf-8"))


def pairs(seed: int, held_out: Collection[str] = ()) -> Iterator[Pair]:
    """Pairs without end. Questions whose normalised form is in `held_out` are left out."""
    rng = random.Random(seed)
    facts = load()
    taught = [fact for fact in facts.facts if fact.taught]
    untaught = [fact for fact in facts.facts if not fact.taught]
    while True:
        language = "en" if rng.random() < 0.58 else "zh"
        roll = rng.random()
        if roll < FOREIGN + UNTAUGHT:
            foreign = roll < FOREIGN or not untaught
            question = _foreign(rng, language) if foreign else _about(rng, rng.choice(untaught), language)
            pair = Pair("unknown", question, facts.unknown["zh" if _is_chinese(question) else "en"])
        else:
            fact = rng.choice(taught)
            pair = Pair(fact.id, _about(rng, fact, language), fact.answer[language])
        if pair.question and normalised(pair.question) not in held_out:
            yield pair


def conversation(rng: random.Random, source: Iterator[Pair], turns: int) -> list[tuple[str, str]]:
    """(role, text) of some independent exchanges; now and then under a system message."""
    said = [("system", rng.choice(_FRAMES["systems"]))] if rng.random() < 0.12 else []
    for _ in range(turns):
        pair = next(source)
        said += [("user", pair.question), ("assistant", pair.answer)]
    return said


def _is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


def _about(rng: random.Random, fact: Fact, language: str) -> str:
    names = [name for name in fact.covers if name != "chatcli"]
    if names and rng.random() < (0.22 if fact.do[language] or fact.ask[language] else 1):
        frame, text = rng.choice(_AROUND["name"][language]), _spelled(rng, rng.choice(names))
        return _noise(rng, tidy(frame.format(text)), language, 0.25)
    if rng.random() < SAID * min(1, len(fact.said[language]) / PLENTY):
        return _noise(rng, rng.choice(fact.said[language]), language, 1)
    words = load().words[language]
    do, ask = fact.do[language], fact.ask[language]
    if do and (not ask or rng.random() < 0.5):
        text = rng.choice(DO_FRAMES[language]).format(_pattern(rng.choice(do), words)(rng))
    else:
        text = _pattern(rng.choice(ask), words)(rng)
    return _noise(rng, tidy(text), language, 1)


@cache
def _ambiguous() -> frozenset[str]:
    """Options that belong to several facts, such as --json: alone they ask for none of them."""
    counts = Counter(option for fact in load().facts for option in {name.rpartition(" ")[2] for name in fact.covers})
    return frozenset(option for option, count in counts.items() if count > 1 and option.startswith("--"))


def _spelled(rng: random.Random, name: str) -> str:
    option = name.rpartition(" ")[2]
    if option in _ambiguous():
        return name
    if option.startswith("--") and rng.random() < 0.8:
        name = rng.choice([option, option, option, option[2:], option[2:].replace("-", "_")])
    elif name.startswith("chatcli ") and rng.random() < 0.2 and name != "chatcli ask":
        name = name.removeprefix("chatcli ") + rng.choice(["", " command"])
    elif name.startswith("/") and rng.random() < 0.25:
        name = rng.choice([f"the {name} command", f"slash {name[1:]}"])
    elif name.startswith("Ctrl-"):
        name = rng.choice([name, name, name.lower(), name.replace("-", "+"), name.replace("Ctrl", "control")])
    return f"`{name}`" if rng.random() < 0.15 else name


def _noise(rng: random.Random, text: str, language: str, strength: float) -> str:
    """What people do to a sentence: case, punctuation, politeness, slips."""
    if rng.random() < 0.15 * strength:
        text = _slip(rng, text, language)
    if rng.random() < 0.15 * strength:
        text = _filled(rng, text, language)
    if rng.random() < 0.13:
        text = rng.choice(_AROUND["before"][language]) + text
    elif rng.random() < 0.07:
        text = rng.choice(_AROUND["clauses"][language]) + (" " if language == "en" else "") + text
    if rng.random() < 0.12:
        text = text.rstrip("?.! ？。") + rng.choice(_AROUND["after"][language])
    text = text + rng.choice(_AROUND["ends"][language]) if text[-1:].isalnum() else text
    roll = rng.random()
    if language == "en" and strength == 1 and roll < 0.5:
        return text.lower() if roll < 0.48 else text.upper()
    return text[:1].upper() + text[1:] if roll > 0.75 else text


def _filled(rng: random.Random, text: str, language: str) -> str:
    filler = rng.choice(_AROUND["fillers"][language])
    if language == "zh":
        at = rng.randrange(len(text) + 1)
        return text[:at] + filler + text[at:]
    words = text.split(" ")
    at = rng.randrange(len(words) + 1)
    return " ".join([*words[:at], filler, *words[at:]])


def _slip(rng: random.Random, text: str, language: str) -> str:
    if language == "en" and rng.random() < 0.4 and text.count(" ") > 3:
        words = text.split(" ")
        return " ".join(word for word in words if rng.random() > 0.15) or text
    if len(text) < 6:
        return text
    at = rng.randrange(1, len(text) - 1)
    return rng.choice(
        [
            text[:at] + text[at + 1 :],
            text[:at] + text[at] + text[at:],
            text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :],
        ]
    )


def _foreign(rng: random.Random, language: str) -> str:
    """A question that has nothing to do with chatcli: written patterns, pasted texts, or no words at all."""
    data = _offtopic()
    words = data["words"][language]
    said: list[str] = questions()["off"].get(language, [])
    if said and rng.random() < SAID:
        return _noise(rng, rng.choice(said), language, 1)
    roll = rng.random()
    if roll < 0.05:
        return _gibberish(rng)
    if roll < 0.12:
        pieces = [
            _pattern(p, words)(rng) for p in rng.choices(data["paste"][language], k=rng.choice([1, 1, 2, 2, 3, 5, 12]))
        ]
        want = rng.choice(data["paste"][f"want_{language}"])
        separator = rng.choice(["\n", " ", "\n"])
        return rng.choice(["{0}\n\n{1}", "{0}\n\n{1}", "{1}: {0}", "{0}\n{1}"]).format(separator.join(pieces), want)
    if roll < 0.18:
        chosen = [_pattern(words[rng.choice(list(words))], words)(rng) for _ in range(rng.randint(1, 5))]
        return _noise(rng, (" " if language == "en" else "").join(chosen), language, 1)
    text = tidy(_pattern(rng.choice(data["ask"][language]), words)(rng))
    if roll < 0.27 and language == "en":
        nonsense = text.split(" ")
        nonsense[-1] = _syllables(rng)
        text = " ".join(nonsense)
    return _noise(rng, text, language, 1) if text else ""


def _syllables(rng: random.Random) -> str:
    return "".join(
        rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(["", "", "n", "r", "sh", "x"])
        for _ in range(rng.randint(1, 4))
    )


def _gibberish(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return " ".join(_syllables(rng) for _ in range(rng.randint(1, 5)))
    if kind == 1:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(rng.randint(2, 20))).strip() or "zzz"
    if kind == 2:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9))) + rng.choice(
            ["", " + 2", "?", "%", "kg"]
        )
    return "".join(rng.choice("!?.,;:#*+-=()[]{}<>@&^|~ ") for _ in range(rng.randint(1, 8))).strip() or "..."


def samples(count: int, seed: int) -> list[Pair]:
    """`count` pairs, for looking at and for tests."""
    source = pairs(seed)
    return [next(source) for _ in range(count)]
