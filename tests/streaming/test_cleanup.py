"""The clean-up of a streaming reply against the same done to the whole text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.streaming.cleanup import CLEANUPS, Cleanup

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"
SPACES = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
]
SPACES += [(" 've", "'ve"), (" 're", "'re")]
MARKS = [(",", "，"), ("!", "！"), (":", "："), (";", "；"), (r"\?", "？")]


def whole(name: str, text: str) -> str:
    """What the original code does to a finished reply, as SPEC 1.6 and 1.7 tell it."""
    if name == "chatglm":
        for old, new in SPACES:
            text = text.replace(old, new)
    text = text.strip().replace("[[训练时间]]", "2023年")
    if name == "chatglm":
        for mark, wide in MARKS:
            text = re.sub(f"([\u4e00-\u9fff]){mark}", rf"\1{wide}", text)
            text = re.sub(f"{mark}([\u4e00-\u9fff])", rf"{wide}\1", text)
    return text


def streamed(name: str, pieces: list[str]) -> str:
    cleanup = Cleanup(name)
    return "".join(map(cleanup.push, pieces)) + cleanup.flush()


def recorded() -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for name in ("chatglm1", "chatglm2"):
        told: dict[str, Any] = json.loads((GOLDEN / name / "golden.json").read_text(encoding="utf-8"))
        found += [(name.replace("glm1", "glm"), text, made) for text, made in told["process_response"]]
    return found


@pytest.mark.parametrize(("name", "text", "expected"), recorded())
def test_the_recorded_replies(name: str, text: str, expected: str) -> None:
    assert streamed(name, [text]) == expected
    assert streamed(name, list(text)) == expected


TEXT = st.lists(
    st.sampled_from(
        [*" \n.?!,:;'中文a", "n't", "'s", "'ve", "[[训练时间]]", "[[", "]]", "训练", " ' ", "\ufffd", "\x1c"]
    ),
    max_size=24,
)


@pytest.mark.parametrize("name", [name for name in CLEANUPS if name])
@given(pieces=TEXT, data=st.data())
def test_where_the_stream_is_cut_never_matters(name: str, pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    cut = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(name, cut) == whole(name, text)


def test_what_is_certain_is_given_out_at_once() -> None:
    cleanup = Cleanup("chatglm")
    assert [cleanup.push(piece) for piece in ("你好", ",", "世", "界", " ", "a", "?", "b")] == [
        *("你好", "，", "世", "界", "", " a", "", "?b")
    ]


def test_no_cleanup_leaves_a_text_alone() -> None:
    assert streamed("", [" a , b ", "\n"]) == " a , b \n"
