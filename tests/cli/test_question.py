"""How a question is put together, and shortened where a person said so."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.cli.question import Question, compose, shortened
from chatcli.environment import Environment
from chatcli.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def piped(environment: Environment, data: bytes) -> Environment:
    return replace(environment, stdin=io.TextIOWrapper(io.BytesIO(data)))


def typed(environment: Environment) -> Environment:
    return replace(environment, stdin=Terminal())


def test_input_then_files_then_words(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\n")
    (tmp_path / "b.txt").write_text("第二\n")
    one = compose(["Why?"], typed(environment), files=[str(tmp_path / "a.txt")])
    assert one.text == "first\n\nWhy?"
    both = compose(["Why?"], piped(environment, b"in\n"), files=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert both.text == f"in\n\n{tmp_path}/a.txt:\n\nfirst\n\n{tmp_path}/b.txt:\n\n第二\n\nWhy?"


def test_a_template_takes_values_input_and_further_words(environment: Environment) -> None:
    asked = compose(["to=French", "keep it short"], piped(environment, b"Guten Tag"), template="translate").text
    assert "into French" in asked
    assert asked.endswith("Guten Tag\n\nkeep it short")
    assert compose(["to=French", "Guten", "Tag"], typed(environment), template="translate").text.endswith("Guten Tag")
    with pytest.raises(UsageError, match="input"):
        compose([], typed(environment), template="translate")


@pytest.mark.parametrize(("data", "said"), [(b"a\0b", "binary"), (b"\x89PNG\r\n\x1a\n\0", "a picture")])
def test_what_is_no_text_is_refused_by_name(environment: Environment, tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "picture.png").write_bytes(data)
    with pytest.raises(UsageError, match=rf"picture\.png is {said}"):
        compose(["What is it?"], typed(environment), files=[str(tmp_path / "picture.png")])


def test_bytes_that_are_no_utf8_are_replaced_and_it_is_said(environment: Environment) -> None:
    heard = Terminal()
    asked = compose(["Why?"], replace(piped(environment, b"caf\xe9"), stderr=heard))
    assert asked.text == "caf\ufffd\n\nWhy?"
    assert "Standard input is not all UTF-8" in heard.getvalue()


def test_a_missing_file_and_an_empty_question_are_usage_errors(environment: Environment) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.txt cannot be read: No such file"):
        compose(["Why?"], typed(environment), files=["nowhere.txt"])
    with pytest.raises(UsageError, match="There is no question"):
        compose([], piped(environment, b" \n"))


@given(st.integers(60, 400), st.sampled_from(["head", "tail", "middle"]), st.integers(0, 600))
def test_as_little_as_possible_is_left_out_and_it_is_said_where(room: int, part: str, length: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    question = Question(text, lambda given: f"{given}\n\nWhy?")
    shown, missing = shortened(question, part, lambda whole: len(whole) <= room)  # type: ignore[arg-type]
    assert len(shown) <= room
    assert shown.endswith("Why?")
    if missing:
        assert f"[{missing} characters are left out here]" in shown
        kept = {"head": text[missing:], "tail": text[: length - missing], "middle": text[: (length - missing) // 2]}
        assert kept[part] in shown
        assert len(question.text) > room
        assert len(shown) >= room - 3  # one character less would not have done, but for the count's own digits
    else:
        assert shown == question.text


def test_a_question_too_long_by_itself_is_not_shortened() -> None:
    with pytest.raises(UsageError, match="even without its input"):
        shortened(Question("abc", lambda given: f"{given} {'Why? ' * 50}"), "tail", lambda whole: len(whole) < 100)
