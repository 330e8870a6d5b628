"""Which replica a prompt goes to, without any replica."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from chatcli.conversation import Attachment, Conversation, Message, Tool
from chatcli.server.replicas.beginnings import (
    BLOCK,
    CHARACTERS_PER_REQUEST,
    HOLDERS,
    Beginning,
    Beginnings,
    of_conversation,
    of_prompt,
)

Replica = TypeVar("Replica", bound=Hashable)

texts = st.lists(st.text(max_size=3 * BLOCK), min_size=1, max_size=6)


def talk(*said: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[n % 2], text) for n, text in enumerate(said)))  # type: ignore[arg-type]


def choose(
    beginnings: Beginnings[Replica], prompt: list[Beginning], ongoing: Mapping[Replica, float], random: Random
) -> Replica:
    """As the router does."""
    return beginnings.choose(prompt, [random.choice(list(ongoing)) for _ in range(2)], ongoing.get)


def shared(one: Conversation, other: Conversation, model: str = "m") -> int:
    """Characters that two conversations begin with alike, as far as can be told."""
    keys = {each.key for each in of_conversation(model, one)}
    return max((each.length for each in of_conversation("m", other) if each.key in keys), default=0)


@given(texts, st.text(min_size=1))
def test_a_talk_that_goes_on_begins_with_all_that_was_read_before(said: list[str], more: str) -> None:
    before = of_conversation("m", talk(*said))
    assert of_conversation("m", talk(*said, more))[: len(before)] == before


def test_another_beginning_shares_nothing() -> None:
    assert shared(talk("Hello", "Hi", "And?"), talk("Hullo", "Hi", "And?")) == 0
    assert shared(talk("Hello"), talk("Hello"), model="another") == 0
    with_tools = Conversation(talk("Hello").messages, tools=(Tool("clock"),))
    assert shared(with_tools, talk("Hello")) == 0
    seen = Conversation((Message("user", "What is it?", attachments=(Attachment("a.png", 1, sha256="ab"),)),))
    assert shared(seen, talk("What is it?")) == 0


def test_two_questions_on_one_document_share_its_blocks() -> None:
    document = "".join(f"line {n}\n" for n in range(2000))
    length = shared(talk(f"{document} What?"), talk(f"{document} Who?"))
    assert len(document) - BLOCK < length <= len(document)


def test_a_raw_prompt_is_a_text_or_ids() -> None:
    ids = list(range(3 * BLOCK))
    assert [each.length for each in of_prompt("m", ids)] == [BLOCK, 2 * BLOCK, 3 * BLOCK]
    assert of_prompt("m", ids)[:2] == of_prompt("m", tuple(ids[: 2 * BLOCK]))
    assert of_prompt("m", "ab") != of_prompt("m", "ba")


def test_a_talk_stays_with_the_replica_that_has_read_it() -> None:
    beginnings: Beginnings[int] = Beginnings()
    idle = dict.fromkeys(range(100), 0.0)
    first = of_conversation("m", talk("Hello " * 1000))
    beginnings.note(first, 42)
    then = of_conversation("m", talk("Hello " * 1000, "Hi", "And?"))
    assert {choose(beginnings, then, idle, Random(seed)) for seed in range(50)} == {42}


def test_a_talk_leaves_a_replica_that_is_much_busier_than_reading_again_costs() -> None:
    beginnings: Beginnings[str] = Beginnings()
    read = of_conversation("m", talk("x" * 6000))
    beginnings.note(read, "has it")
    worth = 6000 / CHARACTERS_PER_REQUEST
    for busy, expected in ((worth - 0.5, "has it"), (worth + 0.5, "idle")):
        chosen = {choose(beginnings, read, {"has it": busy, "idle": 0.0}, Random(seed)) for seed in range(50)}
        assert expected in chosen
        assert ("idle" in chosen) == (expected == "idle")


def test_what_nobody_has_read_goes_to_the_less_busy_of_two() -> None:
    beginnings: Beginnings[int] = Beginnings()
    ongoing = {replica: float(replica) for replica in range(10)}
    random = Random(0)
    chosen = [choose(beginnings, of_prompt("m", f"prompt {n}"), ongoing, random) for n in range(4000)]
    shares = [chosen.count(replica) / len(chosen) for replica in range(10)]
    assert shares == sorted(shares, reverse=True)
    assert 0.16 < shares[0] < 0.22  # of two that are drawn the first is one in 19 of 100 cases


def test_what_everybody_has_read_is_no_reason_to_go_anywhere() -> None:
    """A system message that all talks begin with must not draw them to the few replicas that had it first."""
    beginnings: Beginnings[int] = Beginnings()
    system = of_conversation("m", Conversation((Message("system", "Be brief. " * 1000),)))
    for replica in range(HOLDERS + 1):
        beginnings.note(system, replica)
    random = Random(0)
    chosen = {choose(beginnings, system, dict.fromkeys(range(200), 0.0), random) for _ in range(1000)}
    assert len(chosen) > 150


def test_a_replica_that_has_gone_is_not_chosen() -> None:
    beginnings: Beginnings[str] = Beginnings()
    read = of_prompt("m", "x" * 9000)
    beginnings.note(read, "gone")
    assert choose(beginnings, read, {"alive": 3.0}, Random(0)) == "alive"


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 5)), max_size=60))
def test_no_more_is_remembered_than_the_limit_and_the_latest_always(sent: list[tuple[str, int]]) -> None:
    beginnings: Beginnings[int] = Beginnings(limit=10)
    for text, replica in sent:
        prompt = of_conversation("m", talk(text, "a", "b"))
        beginnings.note(prompt, replica)
        assert len(beginnings) <= 10
        assert beginnings.longest(prompt, {replica: 0.0}.get)[1] in ((replica,), ())
