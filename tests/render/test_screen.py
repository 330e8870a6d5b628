"""A reply on a terminal of given size: what is on the screen and in the scrollback is one render of the whole text."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_texts import TEXTS, pieces

from chatcli.environment import Environment
from chatcli.errors import EngineError
from chatcli.generation import Event, Finished, Reasoning, Text
from chatcli.render.answer import show_answer
from chatcli.render.markdown import render
from chatcli.render.rows import encoded


class Terminal(io.StringIO):
    """A stream whose characters go to a screen."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text)
        return len(text)

    @property
    def rows(self) -> list[str]:
        above = ["".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self.screen.display]).rstrip("\n").split("\n")

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.screen.columns, self.screen.lines))

    def environment(self, **variables: str) -> Environment:
        seconds = iter(range(10**9))
        return Environment(self, self, self, variables, monotonic=lambda: float(next(seconds)), terminal_size=self.size)


def at_once(text: str, columns: int, lines: int) -> list[str]:
    """The rows of one render, written to the same kind of screen."""
    terminal = Terminal(columns, lines)
    terminal.write("".join(encoded(row, color=True) + "\n" for row in render(text, columns)))
    return terminal.rows


@settings(max_examples=25, deadline=None)
@given(
    TEXTS,
    st.lists(st.sampled_from([1, 3, 9, 60]), min_size=1, max_size=3),
    st.sampled_from([(20, 10), (80, 24), (200, 50), (40, 5)]),
)
def test_the_final_screen_is_one_render_of_the_whole(text: str, sizes: list[int], size: tuple[int, int]) -> None:
    terminal = Terminal(*size)
    show_answer([*map(Text, pieces(text, sizes)), Finished("stop")], terminal.environment())
    assert terminal.rows == at_once(text, *size)
    assert terminal.screen.cursor.x == 0 and not terminal.screen.cursor.hidden


def test_a_reply_longer_than_the_screen_has_every_line_once() -> None:
    terminal = Terminal(20, 10)
    text = "\n\n".join(f"line {n:03} of **a reply** that is longer" for n in range(60))
    show_answer(map(Text, pieces(text, [3])), terminal.environment())
    assert [sum(f"line {n:03}" in row for row in terminal.rows) for n in range(60)] == [1] * 60


@pytest.mark.parametrize("cut", range(3, 60, 7))
def test_a_reply_that_breaks_leaves_what_came(cut: int) -> None:
    text = "# Head\n\n- one **bold**\n\n```py\nx = 1\ny = 2"

    def breaking() -> Iterator[Event]:
        yield from map(Text, pieces(text[:cut], [1]))
        raise EngineError("Broken.")

    terminal = Terminal(20, 10)
    with pytest.raises(EngineError):
        show_answer(breaking(), terminal.environment())
    assert terminal.rows == at_once(text[:cut].rstrip(), 20, 10)
    assert terminal.screen.cursor.x == 0


@pytest.mark.parametrize(("before", "after"), [((80, 24), (40, 24)), ((40, 10), (80, 24)), ((80, 24), (80, 10))])
def test_a_resize_in_mid_reply_loses_nothing_and_repeats_nothing_finished(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """The screen of these tests cuts lines, as xterm does; others break them anew."""
    terminal = Terminal(*before)
    text = "\n\n".join(f"word{n:02}" for n in range(40))

    def resized() -> Iterator[Event]:
        for number, piece in enumerate(pieces(text, [4])):
            if number == 40:
                terminal.screen.resize(lines=after[1], columns=after[0])
            yield Text(piece)

    show_answer(resized(), terminal.environment(XTERM_VERSION="XTerm(390)"))
    later = "\n".join(terminal.rows)
    assert all(later.count(f"word{n:02}") == 1 for n in range(22, 40))


def test_reasoning_is_a_small_window_and_folds_to_one_line() -> None:
    terminal = Terminal(40, 12)
    heights: list[int] = []

    def thinking() -> Iterator[Event]:
        for n in range(100):
            yield Reasoning(f"thought {n} of many. ")
            heights.append(len(terminal.rows))
        yield Text("The answer.")

    show_answer(thinking(), terminal.environment(), unfold_hint="/think shows it")
    assert 2 <= max(heights) <= 4
    first, *rest = terminal.rows
    assert first.startswith("thought for ") and "100 tokens" in " ".join(terminal.rows[:2])
    assert rest[-1] == "The answer."
    assert not any("of many" in row for row in terminal.rows)


def test_plain_and_dumb_terminals_get_the_text_as_it_comes() -> None:
    from dataclasses import replace

    for environment in (replace(Terminal(40, 12).environment(), plain=True), Terminal(40, 12).environment(TERM="dumb")):
        show_answer([Text("**a** `b`\n"), Text("- c")], environment)
        assert isinstance(environment.stdout, Terminal)
        assert environment.stdout.rows == ["**a** `b`", "- c"]
