"""Prompt templates: gaps are filled, what is missing or unknown is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatcli.errors import UsageError
from chatcli.prompts import PromptTemplate, fill, folder, named, templates


def own(config: Path, name: str, text: str) -> PromptTemplate:
    folder(config).mkdir(parents=True, exist_ok=True)
    (folder(config) / name).write_text(text, encoding="utf-8")
    return named(Path(name).stem, config)


def test_the_shipped_ones_say_what_they_are_for_and_take_input(tmp_path: Path) -> None:
    found = templates(tmp_path)
    assert set(found) == {"commit", "explain", "review", "summarise", "translate"}
    for each in found.values():
        assert each.about, each.name
        assert "the input itself" in fill(each, {}, "the input itself")
        assert "{#" not in fill(each, {}, "x")


def test_values_fill_gaps_and_defaults_stand_in(tmp_path: Path) -> None:
    translate = named("translate", tmp_path)
    assert "into French." in fill(translate, {"to": "French"}, "Guten Tag")
    assert "into English." in fill(translate, {}, "Guten Tag")


def test_an_own_template_stands_in_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    mine = own(tmp_path, "commit.txt", "{# Mine #}\nSay it for {{ who }}:\n{{ input }}\n")
    assert (mine.about, fill(mine, {"who": "我"}, "diff")) == ("Mine", "Say it for 我:\ndiff")
    assert mine.origin.endswith("commit.txt")


def test_input_goes_before_a_template_that_does_not_ask_for_it(tmp_path: Path) -> None:
    assert fill(own(tmp_path, "short.md", "In one word?\n"), {}, "a text") == "a text\n\nIn one word?"


def test_what_is_typed_is_never_a_template(tmp_path: Path) -> None:
    assert fill(own(tmp_path, "echo.md", "{{ input }}"), {}, "{{ 7 * 7 }} {% x %}") == "{{ 7 * 7 }} {% x %}"


def test_a_missing_value_and_an_unknown_one_are_named(tmp_path: Path) -> None:
    greeting = own(tmp_path, "greet.md", "Hello {{ who }}")
    with pytest.raises(UsageError, match="'who' is undefined; it has who"):
        fill(greeting, {}, "")
    with pytest.raises(UsageError, match="has no whom: it has who"):
        fill(greeting, {"whom": "x"}, "")
    with pytest.raises(UsageError, match="needs an input: pipe it in"):
        fill(named("commit", tmp_path), {}, "")


def test_a_broken_template_and_a_wrong_name_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be filled"):
        fill(own(tmp_path, "bad.md", "{{ who"), {}, "")
    with pytest.raises(UsageError, match=r"().__class__|cannot be filled"):
        fill(own(tmp_path, "escape.md", "{{ ().__class__.__bases__ }}"), {}, "")
    with pytest.raises(UsageError, match="did you mean commit"):
        named("comit", tmp_path)
    (folder(tmp_path) / "latin.md").write_bytes(b"\xe4")
    with pytest.raises(UsageError, match=r"latin\.md"):
        templates(tmp_path)
