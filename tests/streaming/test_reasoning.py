"""Reasoning tags: what is reasoning and what is answer never depends on how the reply was cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatcli.generation import Reasoning, Text
from chatcli.streaming.reasoning import ReasoningSplitter

PARTS = st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", "</thi", "a", "b ", " ", "\n", "你"])
REPLIES = st.lists(PARTS, max_size=12).map("".join)


def run(pieces: list[str], *, inside: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(inside=inside)
    events = [event for piece in pieces for event in splitter.push(piece)] + splitter.flush()
    assert all(event.text for event in events)
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=lambda kind: kind is Text), "reasoning comes before the answer"
    return (
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Text)),
    )


def whole(reply: str, *, inside: bool) -> tuple[str, str]:
    """The same by two regular expressions over the whole reply."""
    start = r"\s*(?:<think>)?" if inside else r"\s*<think>"
    if not re.match(start, reply):
        return "", reply
    rest = re.sub(start, "", reply, count=1)
    thought, _, answer = rest.partition("</think>")
    return thought.strip(), answer.lstrip()


@given(REPLIES, st.booleans(), st.data())
@example("<think>\n\n</think>\n\nHi", False, None)
def test_any_cut_gives_the_whole(reply: str, inside: bool, data: st.DataObject | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply))))) if data else []
    pieces = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert run(pieces, inside=inside) == whole(reply, inside=inside)
    assert run(list(reply), inside=inside) == whole(reply, inside=inside)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Hello", ("", "Hello")),
        ("\n<think>\nwell,\n\n so\n</think>\n\nYes", ("well,\n\n so", "Yes")),
        ("<think></think>Yes", ("", "Yes")),
        ("<think>never ends ", ("never ends", "")),
        ("The tag <think> opens it</think>", ("", "The tag <think> opens it</think>")),
        ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>")),
        ("<thin", ("", "<thin")),
        ("  indented", ("", "  indented")),
    ],
)
def test_examples(reply: str, expected: tuple[str, str]) -> None:
    assert run([reply]) == expected


def test_the_prompt_opened_the_tag() -> None:
    assert run(["\nwell</th", "ink>\nYes"], inside=True) == ("well", "Yes")


def test_an_answer_is_not_held_back() -> None:
    splitter = ReasoningSplitter()
    assert splitter.push("H") == [Text("H")]
    assert splitter.push(" <") == [Text(" <")]


def test_reasoning_is_held_back_only_where_it_may_end() -> None:
    splitter = ReasoningSplitter()
    assert splitter.push("<think>a < b") == [Reasoning("a < b")]
    assert splitter.push(" </t") == []
    assert splitter.push("o") == [Reasoning(" </to")]


def test_other_tags() -> None:
    splitter = ReasoningSplitter("[THINK]", "[/THINK]")
    assert splitter.push("[THINK]a[/THINK]b") == [Reasoning("a"), Text("b")]


CHANNELS = ("<c>think<m>", "<e><s>", "<c>final<m>")


@given(
    st.lists(st.sampled_from([*CHANNELS, "<", "<c>", "a", "b ", "\n", "<e>", "<s>"]), max_size=10).map("".join),
    st.data(),
)
@example("<c>think<m>a<e><s><c>final<m>b", None)
def test_any_cut_gives_the_whole_where_the_answer_has_a_tag(reply: str, data: st.DataObject | None) -> None:
    def split(pieces: list[str]) -> list[str]:
        splitter = ReasoningSplitter(*CHANNELS)
        events = [event for piece in pieces for event in splitter.push(piece)] + splitter.flush()
        return ["".join(e.text for e in events if isinstance(e, kind)) for kind in (Reasoning, Text)]

    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply))))) if data else []
    pieces = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert split(pieces) == split(list(reply)) == split([reply])


def test_an_answer_with_a_tag_of_its_own() -> None:
    splitter = ReasoningSplitter(*CHANNELS)
    assert splitter.push("<c>think<m> a <e><s><c>think<m>b<e><s><c>final<m> c <c>final<m>") == [
        Reasoning("a"), Reasoning("b"), Text("c <c>final<m>"),
    ]  # fmt: skip
    assert ReasoningSplitter(*CHANNELS).push("<c>final<m>\nc") == [Text("c")]
