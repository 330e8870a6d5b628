"""Pictures in a prompt's text: where they stand, what moves behind them, what a person typed stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.adapters.pictures import shown
from chatcli.adapters.prompt import build, wants_parts
from chatcli.conversation import Attachment, Conversation, Message
from chatcli.errors import BrokenCheckpoint

CHATS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}"
)
PARTS_ONLY = (
    "{% for m in messages %}{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endfor %}"
)
IMAGE = Attachment("a.png", 1, "aa", media="image/png", data=b"a")


class Patches:
    """A family that writes so many patches for each picture."""

    placeholder = "<image>"

    def __init__(self, *counts: int) -> None:
        self._counts = list(counts)

    def expansion(self, image: Attachment) -> str:
        return "#" * self._counts.pop(0)


def asked(text: str, images: int = 0) -> Message:
    return Message("user", text, attachments=(IMAGE,) * images)


def test_each_place_gets_its_picture_and_replies_move() -> None:
    talk = Conversation((asked("one", 2), Message("assistant", "yes"), asked("two", 1)))
    prompt = shown(build(CHATS, talk, control=["<image>"]), Patches(3, 1, 2), talk.images)
    assert prompt.text == "[user]####one[assistant]yes[user]##two"
    assert [prompt.text[a:b] for a, b in prompt.replies] == ["yes"]


@given(st.lists(st.text("<image>x", max_size=20), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=4))
def test_what_is_typed_stays_typed(texts: list[str], counts: list[int]) -> None:
    messages = [asked(text, 1) for text in texts]
    prompt = build(CHATS, Conversation(tuple(messages)), control=["<image>"])
    made = shown(prompt, Patches(*counts), [IMAGE] * len(texts))
    assert made.text == "".join(f"[user]{'#' * count}{text}" for count, text in zip(counts, texts, strict=False))
    assert len(made.cuts) == sum(text.count("<image>") for text in texts)
    assert all(made.text[cut - 1 : cut + 6] == "<image>" for cut in made.cuts)


def test_a_template_with_another_number_of_places_is_refused() -> None:
    prompt = build("{% for m in messages %}<image>{% endfor %}", Conversation((asked("one", 2),)))
    with pytest.raises(BrokenCheckpoint, match="1 places for 2 pictures"):
        shown(prompt, Patches(1, 1), [IMAGE, IMAGE])


def test_a_template_that_knows_parts_only_gets_them_and_others_get_texts() -> None:
    assert wants_parts(PARTS_ONLY)
    assert build(PARTS_ONLY, Conversation((asked("hello"),))).text == "hello"
    for template in (CHATS, "{{ messages[0].content }}", "{{ raise_exception('no') }}", "{{ broken", "nothing"):
        assert not wants_parts(template)


def test_without_pictures_a_template_sees_a_text() -> None:
    assert build("{{ messages[0].content is string }}", Conversation((asked("x"),))).text == "True"
