"""What Markdown looks like: nothing is lost, nothing acts, and it fits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_texts import LINE, TEXTS

from chatcli.render.markdown import render
from chatcli.render.rows import Span, encoded, plain, row_width, split, wrap


def shown(source: str, columns: int = 80) -> str:
    return "\n".join(plain(row) for row in render(source, columns))


@pytest.mark.parametrize(
    "text",
    [
        "__init__ and __name__", "a*b*c", "2**3**4", '<div class="a">', "<think>", "$a_b$ and $c_d$",
        r"\(x_1\) and \(y_1\)",
        r"\[a_1 * b_1\]", r"$\{x\} * y * z$", "snake_case_name", "*args and **kwargs", r"C:\dir\x (\\server)",
        "&lt; &amp;",
        "[text][reference]", "[1]: http://x.y", "- [ ] task"[2:], "$5 and $10", "Title\n===", "[red]no[/red]",
        "1986. A year",
        "f(*a) + g(*b)", "~ tilde ~", "a | b", "#tag", "$$x_1$$", "\\[\na_1\n- b\n\\]", "$$\na_1 * b\n$$",
    ],
)  # fmt: skip
def test_text_is_not_eaten(text: str) -> None:
    """`transformers chat` printed `__init__` as `init`, `a*b*c` as `abc`, and `<div>` not at all."""
    assert shown(text) == text


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("**bold** `code` *em* ~~gone~~", "bold code em gone"),
        ("[docs](http://x.y/a_b)", "docs (http://x.y/a_b)"),
        ("<http://x.y>", "http://x.y"),
        ("[http://x.y](http://x.y)", "http://x.y"),
        ("![alt](pic.png)", "alt (pic.png)"),
        ("1. one\n1. two", "1. one\n1. two"),
        ("- a\n  - b\n\n    c\n- d", "• a\n  • b\n\n    c\n• d"),
        ("> a\n>\n> - b", "│ a\n│\n│ • b"),
        ("one\ntwo", "one\ntwo"),
        ("# Head\n\n\n\ntext", "Head\n\ntext"),
        ("```py\nx\n```", "```py\nx\n```"),
        ("```py\nx", "```py\nx"),
        ("|a|b|\n|-|-:|\n|1|2|\n|中文|300|", "a    │   b\n─────┼────\n1    │   2\n中文 │ 300"),
        (r"\*no\* \# \_x\_", "*no* # _x_"),
    ],
)
def test_blocks_and_text(source: str, rows: str) -> None:
    assert "\n".join(line.rstrip() for line in shown(source).split("\n")) == rows


def test_a_table_too_wide_wraps_its_cells_and_in_the_end_becomes_lines() -> None:
    source = "|name|what it does|\n|-|-|\n|one|words that go on and on|\n|two|few|"
    assert max(map(row_width, render(source, 30))) < 30
    assert shown("|name|b|c|\n|-|-|-|\n|1|2|3|\n|4|5|6|", 10) == "name: 1\nb: 2\nc: 3\n\nname: 4\nb: 5\nc: 6"


def test_without_colour_code_keeps_its_signs_and_no_colour_is_written() -> None:
    rows = render("**b** `code`\n\n```py\ndef f(): 1 # c\n```", 80, color=False)
    assert plain(rows[0]) == "b `code`"
    assert "".join(encoded(row, color=False) for row in rows[:2]) == "\x1b[1mb\x1b[0m `code`"
    assert not any(re.search(r"\x1b\[(\d;)*(2|3\d)[;m]", encoded(row, color=False)) for row in rows)


def test_an_address_cannot_act_on_the_terminal() -> None:
    for source in ("[a](http://x/%1b]0;x%07)", "[a](&#27;[2J)", "<http://x/%1b>", "&#27;[2J", "```&#27;[2J\nx\n```"):
        assert "\x1b" not in shown(source)


def test_links_to_scripts_stay_text() -> None:
    assert shown("[a](javascript:alert)") == "[a](javascript:alert)"


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.sampled_from([20, 80]))
def test_only_code_is_wider_than_the_screen(text: str, columns: int) -> None:
    unfenced = re.sub(r"    |[`~]", "", text)
    for row in render(re.sub(r"\$\$|\\\[", "formula", unfenced), columns):
        assert row_width(row) < columns or "x" * 20 in plain(row) or "|" in plain(row), row


@given(LINE, st.integers(2, 40))
def test_wrapping_loses_no_letter(line: str, columns: int) -> None:
    rows = wrap([Span(line)], columns)
    assert "".join(plain(row) for row in rows).replace(" ", "") == line.replace(" ", "")
    assert all(row_width(row) <= columns for row in rows)


def test_a_row_is_cut_between_wide_letters() -> None:
    assert [plain(row) for row in split((Span("a中文"), Span("字b")), 4)] == ["a中", "文字", "b"]
    assert [plain(row) for row in wrap([Span("中文字符，好")], 8)] == ["中文字", "符，好"]


@pytest.mark.parametrize("columns", [20, 80])
def test_deep_nesting_is_shown(columns: int) -> None:
    text = "".join(f"{'  ' * depth}- level{depth}.\n" for depth in range(15))
    assert all(f"level{depth}." in shown(text, columns) for depth in range(15))
