"""Stop strings: what is shown never depends on how the text was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.streaming.stops import StopStrings

LETTERS = "ab\n"  # few, so that stop strings overlap themselves and each other


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    splitter = StopStrings(stops)
    shown, hit = "", None
    for piece in pieces:
        safe, hit = splitter.push(piece)
        shown += safe
    return shown + splitter.flush(), hit


def first_complete(stops: list[str], text: str) -> tuple[str, str | None]:
    """The definition, letter by letter: the stop string that is complete first, of those the longest."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(
    st.lists(st.text(LETTERS, max_size=4), max_size=4),
    st.lists(st.text(LETTERS, max_size=5), max_size=12),
)
def test_any_cut_gives_the_definition(stops: list[str], pieces: list[str]) -> None:
    assert run(stops, pieces) == first_complete(stops, "".join(pieces))


@given(st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4), st.text(LETTERS, max_size=30))
def test_nothing_of_a_stop_string_leaks_and_nothing_else_is_held(stops: list[str], text: str) -> None:
    splitter = StopStrings(stops)
    shown = ""
    for end, letter in enumerate(text, 1):
        safe, hit = splitter.push(letter)
        shown += safe
        if hit is not None:
            return
        held = text[len(shown) : end]
        assert text[:end] == shown + held
        assert held == "" or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (["User:"], ["Hi", "\nUs", "er", ": me"], ("Hi\n", "User:")),
        (["User:"], ["Hi\nUse", "d"], ("Hi\nUsed", None)),
        (["abcd", "bc"], ["abcd"], ("a", "bc")),
        (["b", "ab"], ["ab"], ("", "ab")),
        (["a", "ab"], ["ab"], ("", "a")),
        (["。"], ["你好。", "再见"], ("你好", "。")),
        ([], ["a"], ("a", None)),
        ([""], ["a"], ("a", None)),
    ],
)
def test_examples(stops: list[str], pieces: list[str], expected: tuple[str, str | None]) -> None:
    assert run(stops, pieces) == expected


def test_after_a_hit_everything_is_dropped() -> None:
    splitter = StopStrings(["."])
    assert splitter.push("a.b") == ("a", ".")
    assert splitter.push("c.") == ("", ".")
    assert splitter.flush() == ""
