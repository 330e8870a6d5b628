"""When the context is full: whole exchanges, the oldest first, said, and never the system message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.conversation import Conversation, Message
from chatcli.engines.overflow import fit
from chatcli.errors import ContextOverflow
from chatcli.generation import DEFAULTS, GenerationSettings


def encode(conversation: Conversation) -> list[int]:
    """A token a character, three a message."""
    return [1] * sum(3 + len(m.text) for m in conversation.messages)


def talk(*lengths: int, system: int = 0) -> Conversation:
    """Questions and answers of the given lengths, a question last."""
    roles = ("user", "assistant") * len(lengths)
    spoken = tuple(Message(role, "x" * n) for role, n in zip(roles, lengths, strict=False))
    return Conversation(spoken).with_system("s" * system)


def test_what_fits_goes_in_whole() -> None:
    fitted = fit(talk(10, 10, 10), encode, 100, DEFAULTS)
    assert (len(fitted.ids), fitted.room, fitted.dropped) == (39, 61, 0)


def test_the_oldest_exchanges_go_first_and_the_note_says_how_many() -> None:
    fitted = fit(talk(20, 20, 20, 20, 20, system=5), encode, 100, DEFAULTS)
    assert fitted.dropped == 2  # down to half the context
    assert len(fitted.ids) == 8 + 23
    assert "2 exchanges" in fitted.note


def test_what_was_left_out_stays_out_while_that_is_enough() -> None:
    """Otherwise the beginning would move every turn and nothing of the cache could be used."""
    conversation = talk(*[7] * 11)
    first = fit(conversation, encode, 100, DEFAULTS)
    assert first.dropped == 3
    longer = conversation.add(Message("assistant", "y")).add(Message("user", "z"))
    assert fit(longer, encode, 100, DEFAULTS, dropped=first.dropped).dropped == first.dropped


def test_stop_refuses_with_the_numbers() -> None:
    with pytest.raises(ContextOverflow, match=r"115 tokens.*100"):
        fit(talk(20, 20, 20, 20, 20), encode, 100, GenerationSettings(overflow="stop").over(DEFAULTS))


def test_a_question_longer_than_the_context_is_refused_with_the_numbers() -> None:
    with pytest.raises(ContextOverflow, match=r"113 tokens.*100"):
        fit(talk(20, 20, 110), encode, 100, DEFAULTS)


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=15).filter(lambda ls: len(ls) % 2 == 1),
    system=st.integers(0, 20),
    dropped=st.integers(0, 8),
    limit=st.integers(1, 200) | st.none(),
)
def test_the_prompt_always_fits_begins_right_and_ends_with_the_question(
    lengths: list[int], system: int, dropped: int, limit: int | None
) -> None:
    conversation = talk(*lengths, system=system)
    seen: list[Conversation] = []

    def watched(each: Conversation) -> list[int]:
        seen.append(each)
        return encode(each)

    settings = GenerationSettings(max_new_tokens=limit).over(DEFAULTS)
    try:
        fitted = fit(conversation, watched, 128, settings, dropped=dropped)
    except ContextOverflow:
        assert len(encode(talk(lengths[-1], system=system))) >= 128
        return
    prompt = seen[-1]
    assert fitted.ids == encode(prompt)
    assert fitted.room == 128 - len(fitted.ids) >= 1
    assert prompt.system == conversation.system
    assert prompt.spoken == conversation.spoken[2 * fitted.dropped :]
    assert prompt.spoken[0].role == "user"
