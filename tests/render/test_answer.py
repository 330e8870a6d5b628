"""One answer on a pipe and on a terminal: what goes where, and what never does."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.environment import Environment
from chatcli.errors import EngineError
from chatcli.generation import Event, Finished, Progress, Reasoning, Text
from chatcli.render.answer import show_answer

DONE = Finished("stop", 8, 2)


class Screen(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def piped() -> Environment:
    return Environment(io.StringIO(), io.StringIO(), io.StringIO())


def watched(**variables: str) -> tuple[Environment, Screen]:
    """An environment whose two outputs are one terminal, on which time flies."""
    screen = Screen()
    seconds = iter(range(10**6))
    return Environment(Screen(), screen, screen, variables, monotonic=lambda: float(next(seconds))), screen


def written(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


@given(st.text(alphabet="a\n 你", max_size=20), st.lists(st.integers(0, 20), max_size=6))
def test_a_pipe_gets_the_answer_and_one_newline_however_it_is_cut(text: str, cuts: list[int]) -> None:
    environment = piped()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    events: list[Event] = [Text(piece) for piece in pieces if piece]
    assert show_answer([*events, DONE], environment) == DONE
    answer = text.rstrip("\n")
    assert written(environment.stdout) == (answer + "\n" if answer else "")


def test_a_pipe_gets_nothing_but_the_answer() -> None:
    environment = piped()
    events = [Progress("loading", 1, 2, "B"), Reasoning("hm"), Progress("x", note="Old."), Text("Yes."), DONE]
    show_answer(events, environment)
    assert (written(environment.stdout), written(environment.stderr)) == ("Yes.\n", "")


def test_progress_vanishes_before_the_answer_and_reasoning_stands_apart() -> None:
    environment, screen = watched()
    show_answer([Progress("reading", 1, 2, "tokens"), Reasoning("Hm."), Text("Yes."), DONE], environment)
    shown = screen.getvalue()
    assert "reading 1 of 2 tokens" in shown
    *_, after = shown.split("\r\x1b[2K")
    assert "reading" not in after
    assert re.search(r"thought for .*\n\x1b.*Yes\.", after, re.DOTALL)


def test_progress_in_mid_answer_does_not_erase_the_line_being_written() -> None:
    """Half a character makes a token without text; its progress once wiped the line away."""
    environment, screen = watched()
    late = Progress("writing", 2, unit="tokens")
    environment = replace(environment, plain=True)
    show_answer([Text("Half "), late, late, Text("a line"), DONE], environment)
    assert screen.getvalue() == "Half a line\n"


def test_a_note_in_mid_answer_waits_for_its_end() -> None:
    environment, screen = watched()
    environment = replace(environment, plain=True)
    show_answer([Text("Half "), Progress("saving", note="The disk is full."), Text("a line"), DONE], environment)
    assert screen.getvalue() == "Half a line\nchatcli: The disk is full.\n"


def test_a_dumb_terminal_gets_no_escape_code() -> None:
    environment, screen = watched(TERM="dumb")
    show_answer([Progress("loading", 1, 2, "B"), Reasoning("Hm."), Text("Yes."), DONE], environment)
    assert "\x1b" not in screen.getvalue()


def test_no_color_takes_the_colour_and_leaves_the_progress() -> None:
    environment, screen = watched(NO_COLOR="1")
    show_answer([Progress("loading", 1, 2, "B"), Reasoning("Hm."), Text("Yes."), DONE], environment)
    assert not re.search(r"\x1b\[[0-9;]*m", screen.getvalue())
    assert "loading" in screen.getvalue()


def test_an_error_in_mid_answer_finds_the_line_ended() -> None:
    def breaking() -> Iterator[Event]:
        yield Text("Half")
        raise EngineError("Broken.")

    environment = piped()
    with pytest.raises(EngineError):
        show_answer(breaking(), environment)
    assert written(environment.stdout) == "Half\n"


def test_a_reader_that_has_gone_is_not_hidden() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        show_answer([Text("Yes."), DONE], replace(piped(), stdout=Gone()))
