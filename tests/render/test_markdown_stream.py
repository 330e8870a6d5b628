"""However a text is cut into pieces, its rows are those of one render of the whole."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_texts import TEXTS, pieces

from chatcli.render.markdown import render
from chatcli.render.rows import Row, plain
from chatcli.render.stream import MarkdownStream

SIZES = st.lists(st.sampled_from([1, 2, 5, 20, 200]), min_size=1, max_size=4)


def streamed(cut: list[str], columns: int) -> tuple[list[Row], list[int]]:
    """All rows that were finished, and how many were live after each piece."""
    stream = MarkdownStream(color=True)
    rows: list[Row] = []
    live: list[int] = []
    for piece in cut:
        stream.feed(piece)
        finished, open_rows = stream.rows(columns)
        rows += finished
        live.append(len(open_rows))
    return rows + stream.end(columns), live


@settings(max_examples=25, deadline=None)
@given(TEXTS, SIZES, st.sampled_from([20, 80, 200]))
@example("- # head\ntext", [1], 80)
@example("> a\n\n> b", [1], 80)
@example("- a\n\n  2. b\n  3. c", [1], 80)
@example("text\n# \n#tag", [1], 80)
@example("```a`b``` is code", [1], 20)
def test_the_cut_never_matters(text: str, sizes: list[int], columns: int) -> None:
    rows, _ = streamed(pieces(text, sizes), columns)
    assert rows == render(text, columns)


GROWING = {
    "a paragraph": ("words that go on and **some bold ones** too ") * 100,
    "a Chinese paragraph": "这是一个很长的中文段落，用来测试换行。" * 60,
    "prices and brackets": "It costs $5 or $10 [1], see <b> and C:\\dir and 2 * 3 = 6. " * 60,
    "code": "```python\n" + "def f():\n    return 'text'\n" * 100,
    "code in a list": "1. - ```c\n" + "     int x; /* y */\n" * 100,
    "a list": "".join(f"{n}. an item of a list\n   - below\n\n" for n in range(100)),
    "an item": "- first\n" + "".join(f"\n  paragraph {n} of the item\n" for n in range(100)),
    "a quote": "> " + "\n>\n> ".join(f"paragraph {n}" for n in range(100)),
    "a list in a quote": "> - " + "\n>\n>   ".join(f"paragraph {n}" for n in range(100)),
    "a table": "|a|b|\n|-|-|\n" + "|cell|other cell|\n" * 100,
    "headings": "# head\n## head\n" * 100,
    "math": "\\[\na = b\n\\]\n\n" * 50,
}


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("columns", [20, 80])
def test_what_is_live_stays_small_however_long_the_text(name: str, columns: int) -> None:
    text = GROWING[name]
    rows, live = streamed(pieces(text, [3, 7]), columns)
    assert rows == render(text, columns)
    assert max(live) <= (34 if name == "a table" else 10)


def test_no_line_of_code_waits_for_the_next() -> None:
    stream = MarkdownStream(color=False)
    stream.feed("```python\nx = 1\ny =")
    finished, live = stream.rows(80)
    assert ([plain(row) for row in finished], [plain(row) for row in live]) == (["```python", "x = 1"], ["y ="])


def test_colours_of_a_text_over_lines_survive_the_cut() -> None:
    text = 'x = """one\ntwo\nthree"""\ny = 1\n'
    rows, _ = streamed(pieces(f"```python\n{text}```\n", [1]), 80)
    assert [span.style for row in rows[2:4] for span in row] == ["32"] * len([s for row in rows[2:4] for s in row])
