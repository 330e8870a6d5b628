"""Lists for people: names whole, nothing wider than the window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from chatcli.render.columns import columns, fitted

ROWS = [("NAME", "FAMILY", "SIZE"), ("short", "llama", "1 GB"), ("a-name-of-twenty-six-cells", "qwen3", "22 GB")]


def test_where_all_fits_all_is_below_each_other() -> None:
    assert list(fitted(ROWS, 80, (1,))) == list(columns(ROWS))


def test_a_long_name_stands_above_its_row() -> None:
    assert list(fitted(ROWS, 36, (1,))) == [
        "NAME   FAMILY  SIZE",
        "short  llama   1 GB",
        "a-name-of-twenty-six-cells",
        "       qwen3   22 GB",
    ]


def test_columns_are_left_out_in_their_order() -> None:
    assert list(fitted(ROWS, 24, (1,))) == ["NAME   SIZE", "short  1 GB", "a-name-of-twenty-six-cells", "       22 GB"]


NAMES, CELLS = (st.text("ab你 ", min_size=1, max_size=size) for size in (20, 8))


@given(st.lists(st.tuples(NAMES, CELLS, CELLS, CELLS), min_size=1), st.integers(25, 60))
def test_no_row_is_wider_than_the_window_and_no_name_is_cut(rows: list[tuple[str, ...]], width: int) -> None:
    lines = list(fitted(rows, width, (3, 2)))
    names = {row[0].rstrip() for row in rows}
    assert all(cell_len(line) <= width or line.rstrip() in names for line in lines)
    for name, *_ in rows:
        assert any(line.startswith(name.rstrip()) for line in lines)
