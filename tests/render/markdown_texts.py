"""Markdown as models write it, and worse: strategies for texts of all kinds of blocks, nested."""

from __future__ import annotations

from hypothesis import strategies as st

WORDS = st.sampled_from(
    [
        "word", "longer-word", "a", "snake_case_name", "__init__", "a*b*c", "2 * 3", "**bold text**", "*em*",
        "~~gone~~",        "`code`", "`a  b`", "``a`b``", "[link](http://x.y/z_(a))", "[no link]",
        "[ref][1]", "<http://a.b/c>", "<div>",
        "$a_b$", "$5", r"\(x_1\)", r"\[y\]", r"\*", "\\", "*", "**", "_", "`", "[", "](", "<", "~~", "$", "&lt;", "|",
        "中文字符很多", "，。", "你**好**吗", "😀", "👍🏽", "❤️", "é", "x" * 25, "1.", "-", "#", "+", "---", ">", "```",
        "  ",
    ]
)  # fmt: skip
LINE = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
SIMPLE = st.sampled_from(["plain words of a sentence", "中文字符很多的一行文字", "**bold** and `code`", "b😀"])
PARAGRAPH = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
HEADING = st.builds(lambda level, line: f"{'#' * level} {line}", st.integers(1, 6), LINE)
CODE = st.sampled_from(
    [
        "def f(x):",
        "    return 'text'  # no",
        '"""a text',
        'over lines"""',
        "",
        "/* open",
        "*/",
        "x" * 50,
        "~~~",
        "- a",
        "中",
    ]
)
FENCE = st.builds(
    lambda language, lines, closed: "\n".join([f"```{language}", *lines, *(["```"] if closed else [])]),
    st.sampled_from(["", "python", "c", "nonsense", "diff"]),
    st.lists(CODE, max_size=8),
    st.booleans(),
)
CELL = st.sampled_from(["a", "longer cell of words", "中文", "`x`", "", "1", "**b**"])


def _table(columns: int, rows: list[list[str]]) -> str:
    head = "|" + "a |" * columns
    line = "|" + ":-: |" * columns
    return "\n".join([head, line, *("|" + " | ".join(row) + "|" for row in rows)])


TABLE = st.integers(1, 4).flatmap(
    lambda columns: st.builds(
        _table, st.just(columns), st.lists(st.lists(CELL, min_size=1, max_size=columns), max_size=40)
    )
)
MATH = st.sampled_from(["$$\na = b\n- c\n$$", "\\[\nx\n\\]", "$$ open\nx"])
LEAF = PARAGRAPH | HEADING | FENCE | TABLE | MATH | SIMPLE | st.just("---") | st.just("    indented\n\n      code")


def _indented(text: str, marker: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([marker + first, *(" " * len(marker) + line if line else line for line in rest)])


def _nested(blocks: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.builds(lambda parts, between: between.join(parts), st.lists(blocks, min_size=1, max_size=3), BETWEEN)
    item = st.builds(_indented, several, st.sampled_from(["- ", "* ", "1. ", "23) ", "-   "]))
    listed = st.builds(lambda items, between: between.join(items), st.lists(item, min_size=1, max_size=4), BETWEEN)
    quote = several.map(lambda text: "\n".join(f"> {line}" for line in text.split("\n")))
    return blocks | listed | quote


BETWEEN = st.sampled_from(["\n", "\n\n", "\n\n\n"])
BLOCK = st.recursive(LEAF, _nested, max_leaves=6)
TEXTS = st.builds(lambda blocks, between: between.join(blocks), st.lists(BLOCK, min_size=1, max_size=5), BETWEEN)


def pieces(text: str, sizes: list[int]) -> list[str]:
    """The text cut into pieces whose lengths go round in `sizes`."""
    cut, at = [], 0
    while at < len(text):
        size = sizes[len(cut) % len(sizes)]
        cut.append(text[at : at + size])
        at += size
    return cut
