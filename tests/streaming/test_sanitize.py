"""What a terminal makes of sanitized text: letters, and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatcli.streaming.sanitize import sanitize

NASTY = st.sampled_from(
    [
        "\x1b[2J", "\x1b[31m", "\x1b]0;owned\x07", "\x1b]52;c;aGk=\x07", "\x9b2J", "\x9d0;owned\x9c", "\x1b[6n",
        "\x1b[?1049h", "\x1bc", "\x08\x08", "\r", "\r\n", "\n", "\t", "\x00", "\x0e", "\x7f", "\u202e", "\u2066",
        "\u2028", "\U000e0041", "\ud800", "abc", "你好", "👩\u200d👩\u200d👧", "é", "\u200f", "\x85", "\x84",
    ]
)  # fmt: skip
TEXTS = st.lists(NASTY | st.text(st.characters(exclude_categories=()), max_size=5), max_size=20).map("".join)


class Orders:
    """In a screen's place: the names of everything a terminal's parser tells it to do."""

    def __init__(self) -> None:
        self.given: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: self.given.add(name)


def orders(text: str) -> set[str]:
    screen = Orders()
    pyte.Stream(screen).feed(text)  # type: ignore[arg-type]
    return screen.given


@pytest.mark.parametrize("attack", ["\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\x1b[6n", "\x1bc", "\x08"])
def test_the_parser_sees_attacks(attack: str) -> None:
    assert orders(attack) - {"draw"}


@given(TEXTS)
@example("\x1b]0;a\x07\x1b[31m\x9b2J")
def test_a_terminal_only_writes(text: str) -> None:
    safe = sanitize(text)
    safe.encode()  # no lone surrogate is left
    assert orders(safe) <= {"draw", "linefeed", "tab"}


@given(TEXTS)
def test_the_screen_keeps_its_title_and_colours(text: str) -> None:
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(sanitize(text).replace("\n", "\r\n"))
    cells = [cell for row in screen.buffer.values() for cell in row.values()]
    assert screen.title == ""
    assert all(cell._replace(data=" ") == pyte.screens.Char(" ") for cell in cells)


@given(TEXTS, st.integers(0, 60))
def test_cuts_and_repetition_change_nothing(text: str, cut: int) -> None:
    assert sanitize(text[:cut]) + sanitize(text[cut:]) == sanitize(text)
    assert sanitize(sanitize(text)) == sanitize(text)


@given(TEXTS)
def test_a_single_line_is_one(text: str) -> None:
    safe = sanitize(text, single_line=True)
    assert safe.splitlines() in ([safe], [])
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in safe)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\r\nb\rc", "a\nbc"),
        ("a\tb", "a\tb"),
        ("\x1b[31mred", "\ufffd[31mred"),
        ("👩\u200d👩\u200d👧 ❤\ufe0f", "👩\u200d👩\u200d👧 ❤\ufe0f"),
        ("\u200fשלום", "\u200fשלום"),
        ("user\u202etxt.exe", "user\ufffdtxt.exe"),
    ],
)
def test_examples(text: str, safe: str) -> None:
    assert sanitize(text) == safe
