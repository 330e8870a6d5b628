"""A reply that is cut anywhere and gone on with is the reply that was not cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.table import shipped
from chatcli.conversation import Message
from chatcli.engines.reply import Reply
from chatcli.generation import Event, GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer

SETTINGS = GenerationSettings(stop=("STOP", "结束"))


@pytest.fixture(scope="module")
def chat(tiny_llama: Path) -> ChatFormat:
    checkpoint = open_checkpoint(tiny_llama, "tiny")
    tokenizer = read_tokenizer(checkpoint)
    assert tokenizer
    return chat_format(checkpoint, tokenizer, shipped())


def shown(reply: Reply, events: list[Event]) -> list[Event]:
    return [reply.show(event) for event in events]


def spoken(chat: ChatFormat, ids: list[int], *, inside: bool) -> Message:
    reply = Reply(chat, SETTINGS, inside=inside)
    for token in ids:
        if not reply.stopped:
            shown(reply, reply.push(token))
    shown(reply, reply.flush(ended=True))
    return reply.shown


PIECES = st.lists(
    st.sampled_from(
        [
            "Hello",
            " ",
            "\n",
            "你好",
            "北京",
            "👩‍👩‍👧",
            "é",
            "STO",
            "STOP",
            "结",
            "<think>",
            "</think>",
            "x = 1",
            "\x1b[",
        ]
    ),
    max_size=8,
)


@given(pieces=PIECES, inside=st.booleans(), data=st.data())
def test_where_a_reply_was_cut_does_not_matter(
    chat: ChatFormat, pieces: list[str], inside: bool, data: st.DataObject
) -> None:
    ids = list(chat.tokenizer.encode("".join(pieces), add_special_tokens=False).ids)
    cut = data.draw(st.integers(0, len(ids)))
    by_limit = data.draw(st.booleans())
    first = Reply(chat, SETTINGS, inside=inside)
    for token in ids[:cut]:
        if not first.stopped:
            shown(first, first.push(token))
    if by_limit:
        shown(first, first.flush(ended=False))
    whole = spoken(chat, ids, inside=inside)
    began = first.shown
    second = Reply(chat, SETTINGS, began, inside=inside)
    shown(second, second.replay(ids[:cut]))
    for token in ids[cut:]:
        if not second.stopped:
            shown(second, second.push(token))
    shown(second, second.flush(ended=True))
    if not by_limit:
        assert second.shown == whole
    else:  # at a limit all is shown that may yet become a stop string, a tag, or white space at an edge
        assert second.shown.text.startswith(began.text)
        assert second.shown.reasoning.startswith(began.reasoning)
        if whole.text.startswith(began.text) and whole.reasoning.startswith(began.reasoning):
            assert second.shown == whole


def test_a_limit_in_the_middle_of_a_character_shows_no_half_of_it(chat: ChatFormat) -> None:
    ids = list(chat.tokenizer.encode("é龘é", add_special_tokens=False).ids)
    for cut in range(len(ids)):
        reply = Reply(chat, SETTINGS, inside=False)
        for token in ids[:cut]:
            shown(reply, reply.push(token))
        shown(reply, reply.flush(ended=False))
        assert "é龘é".startswith(reply.shown.text)


def test_what_was_cut_is_found_again_from_its_text_alone(chat: ChatFormat) -> None:
    """A reply picked up from the disk, or that another model began: its ids are those of its text."""
    began = Message("assistant", "Hello there, how")
    reply = Reply(chat, SETTINGS, began, inside=False)
    encode = lambda text: list(chat.tokenizer.encode(text, add_special_tokens=False).ids)  # noqa: E731
    assert reply.replay(encode(began.text)) == []
    for token in encode(" are you today?"):
        shown(reply, reply.push(token))
    assert reply.shown.text == "Hello there, how are you today?"


def test_ids_that_do_not_fit_to_what_was_shown_repeat_nothing(chat: ChatFormat) -> None:
    reply = Reply(chat, SETTINGS, Message("assistant", "Hello"), inside=False)
    assert reply.replay(chat.tokenizer.encode("Other words", add_special_tokens=False).ids) == []
