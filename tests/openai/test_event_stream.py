"""Server-sent events come out of the same bytes however these are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.openai import sse
from chatcli.openai.sse import EventStream

LINES = st.sampled_from(
    ["data: a", "data:b", "data", "data: ", "data:  two", "data: 你好", ": comment", "event: x", "id: 1", "", "{}", "?"]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def read(pieces: list[bytes]) -> list[str]:
    stream = EventStream()
    return [event for piece in pieces for event in stream.push(piece)] + stream.flush()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(st.tuples(LINES, ENDS), max_size=20), st.lists(st.integers(0, 200), max_size=20))
def test_where_bytes_are_cut_does_not_matter(lines: list[tuple[str, str]], places: list[int]) -> None:
    data = "".join(line + end for line, end in lines).encode()
    assert read(cut(data, places)) == read([data])


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_at_all_are_read_the_same(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


def test_the_standards_own_examples() -> None:
    assert read([b"data: YHOO\ndata: +2\ndata: 10\n\n"]) == ["YHOO\n+2\n10"]
    assert read([b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"]) == [
        "first event",
        "second event",
        " third event",
    ]
    assert read([b"data\n\ndata\ndata\n\n"]) == ["", "\n"]


def test_errors_outside_of_data_are_events_too() -> None:
    assert read([b'data: a\nerror: {"message": "x"}\n\n']) == ["a", '{"error": {"message": "x"}}']
    assert read([b'{"error": "x"}']) == ['{"error": "x"}']


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000, b"data: x\n" * 200])
def test_an_event_without_an_end_is_given_up(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST", 500)
    with pytest.raises(ValueError, match="without an end"):
        EventStream().push(line)
