"""Progress on a terminal: the whole and its parts, and nothing of it left behind."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from itertools import count

import pyte
import pytest

from chatcli.environment import Environment
from chatcli.generation import Part, Progress
from chatcli.render.progress import ProgressLine, described, part_lines

SHARDS = tuple(Part(f"model-{n}.safetensors", n * 10**9, 5 * 10**9) for n in (1, 2))
DOWNLOAD = Progress("downloading", 3 * 10**9, 10 * 10**9, "B", parts=SHARDS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(terminal: Terminal, columns: int = 80, lines: int = 10) -> list[str]:
    screen = pyte.Screen(columns, lines)
    pyte.Stream(screen).feed(terminal.getvalue().replace("\n", "\r\n").replace("\r\r\n", "\r\n"))
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.fixture
def told(environment: Environment) -> Environment:
    seconds = count()
    return replace(
        environment,
        stderr=Terminal(),
        monotonic=lambda: float(next(seconds)),
        terminal_size=lambda: os.terminal_size((80, 10)),
    )


def test_the_whole_stands_above_its_parts_and_all_vanish(told: Environment) -> None:
    line = ProgressLine(told)
    for _ in range(3):
        line.show(DOWNLOAD)
    rows = shown(told.stderr)
    assert [row.split()[0] for row in rows] == ["downloading", "model-1.safetensors", "model-2.safetensors"]
    assert "3.0 of 10.0 GB" in rows[0] and "1.0 of 5.0 GB" in rows[1]
    line.show(replace(DOWNLOAD, parts=SHARDS[:1]))
    assert len(shown(told.stderr)) == 2, "a part that is done leaves no row behind"
    line.show(Progress("", note="It waits."))
    assert shown(told.stderr) == ["chatcli: It waits."]
    line.show(DOWNLOAD)
    line.clear()
    assert shown(told.stderr) == ["chatcli: It waits."]


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (20, 10), (10, 3)])
def test_it_never_scrolls_a_small_window(told: Environment, columns: int, lines: int) -> None:
    line = ProgressLine(replace(told, terminal_size=lambda: os.terminal_size((columns, lines))))
    for _ in range(5):
        line.show(replace(DOWNLOAD, parts=SHARDS * 4))
    assert 1 <= len(shown(told.stderr, columns, lines)) < max(lines, 2)
    line.clear()
    assert shown(told.stderr, columns, lines) == []


def test_one_file_that_is_all_needs_no_second_row() -> None:
    assert part_lines(Progress("downloading", 1, 5 * 10**9, "B", parts=SHARDS[:1]), 80) == []


@pytest.mark.parametrize(
    ("size", "words"), [(1_500_000, "0.8 of 1.5 MB"), (2 * 10**9, "1.0 of 2.0 GB"), (100, "50.0 of 100.0 B")]
)
def test_sizes_are_those_of_the_list_of_models(size: int, words: str) -> None:
    assert described(Progress("downloading", size // 2, size, "B")) == f"downloading {words}"
