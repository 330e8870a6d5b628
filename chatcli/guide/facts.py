"""The guide's facts: what it answers, in two languages, and the ways to ask for it.

Reads facts.toml and nothing else; it does not know how the model is trained, nor the CLI: what
exists there is given to `unknown_names`, and a test compares the two.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = ("en", "zh")

_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_SLASH = re.compile(r"(?<![\w./~])/[a-z]+\b(?!/)")
_WORD = re.compile(r"[a-z]+$")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to know. All but `covers`, the names it explains, and whether it is `taught` go by language.

    `do` and `ask` are patterns; `said` are whole questions, taken as they stand.
    """

    id: str
    covers: tuple[str, ...]
    answer: Mapping[str, str]
    do: Mapping[str, tuple[str, ...]]
    ask: Mapping[str, tuple[str, ...]]
    said: Mapping[str, tuple[str, ...]]
    taught: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts, what is said where none fits, and the word tables of the patterns, by language."""

    facts: tuple[Fact, ...]
    unknown: Mapping[str, str]
    words: Mapping[str, Mapping[str, str]]


@cache
def load() -> Facts:
    """What facts.toml holds."""
    data = tomllib.loads((Path(__file__).parent / "facts.toml").read_text(encoding="utf-8"))
    facts = tuple(
        Fact(
            id=row["id"],
            covers=tuple(row["covers"]),
            answer={language: row[language] for language in LANGUAGES},
            do=_by_language(row.get("do", {})),
            ask=_by_language(row.get("ask", {})),
            said={language: tuple(questions()[language].get(row["id"], ())) for language in LANGUAGES},
            taught=row["id"] not in data["untaught"],
        )
        for row in data["fact"]
    )
    return Facts(facts, data["unknown"], data["words"])


@cache
def questions() -> dict[str, Any]:
    """What questions.toml holds: whole questions by language and fact, and those that concern no fact."""
    path = Path(__file__).parent / "questions.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"en": {}, "zh": {}, "off": {}}


def _by_language(patterns: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {language: tuple(patterns.get(language, ())) for language in LANGUAGES}


def names_in(text: str, surface: Collection[str]) -> frozenset[str]:
    """Commands, options and slash commands that an answer names, such as "chatcli run --top-p" and "/undo".

    An option outside a command stands alone ("--top-p"). Commands count inside backticks only:
    "chatcli talks" is prose. `surface` tells where a command ends and its arguments begin.
    """
    names: set[str] = set(_SLASH.findall(_SPAN.sub(" ", text))) | set(_OPTION.findall(_SPAN.sub(" ", text)))
    for span in _SPAN.findall(text):
        before, _, call = span.rpartition("chatcli ")
        options = _OPTION.findall(span)
        if not call or (not before and not span.startswith("chatcli ")):
            names.update(options, _SLASH.findall(span))
            continue
        command = _command(call.split(), surface)
        names.add(command)
        names.update(f"{command} {option}" for option in options)
    return frozenset(names)


def _command(words: list[str], surface: Collection[str]) -> str:
    """The command that `words` begin with; a word that should be a command but is none stays in it."""
    path = "chatcli"
    for word in words:
        has_children = any(re.match(rf"{re.escape(path)} [a-z]", name) for name in surface)
        if not has_children or not _WORD.match(word):
            break
        path = f"{path} {word}"
    return path


def unknown_names(text: str, surface: Collection[str], slash: Collection[str]) -> frozenset[str]:
    """The names in `text` that do not exist: `surface` of the CLI, `slash` commands without their slash."""
    known = {*surface, *(f"/{name}" for name in slash)}
    bare = {name.rpartition(" ")[2] for name in surface if "--" in name} | {"--help"}
    return frozenset(
        name
        for name in names_in(text, surface)
        if name not in known and name not in bare and not name.endswith(" --help") and not _is_install(name, text)
    )


def _is_install(name: str, text: str) -> bool:
    return f"pip install -U {name}" in text
