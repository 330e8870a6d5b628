"""What is exported can be read, cannot do harm, and comes back whole."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chatcli.errors import UsageError
from chatcli.generation import Finished
from chatcli.history.export import FORMS, export, export_all
from chatcli.history.importing import read_conversations
from chatcli.history.records import Attachment, StoredConversation, StoredMessage
from chatcli.history.store import Store

HOSTILE = (
    '<script>alert(1)</script> <img src="http://x/y.png" onerror=z> ![p](http://x/p.png) [l](javascript:alert(1)) '
    "</div></style><style>*{} \x1b[31m &amp; \"' <!-- \n\n<iframe src=//x></iframe>\n\n```html\n<b onclick=x>\n```\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    clock = itertools.count(1000.25)
    with closing(Store.open(tmp_path / "history.db", now=lambda: next(clock))) as opened:
        yield opened


def a_talk(store: Store) -> str:
    """Two questions, the second answered twice and then the talk taken back to the first of the answers."""
    talk = store.start("m/one", "r1", "Be brief.")
    asked = store.add_question(talk, None, "q1 你好", [Attachment("a.txt", 3, "ff", "abc")])
    first = store.begin_reply(talk, asked, "m/one", "r1", {"top_k": 3, "seed": 7})
    store.append(first, "a1", "hm")
    store.finish(first, Finished("stop", 5, 2, 1, 0.5, 0.25))
    second = store.add_question(talk, first, "q2")
    for model in ("m/two", "m/three"):
        reply = store.begin_reply(talk, second, model)
        store.finish(reply, Finished("length"), text=f"by {model}")
    store.set_head(talk, reply - 1)
    return talk


def said(text: str) -> StoredConversation:
    question, answer = (
        StoredMessage(1, "user", text),
        StoredMessage(2, "assistant", text, text, model=text, parent_id=1),
    )
    return StoredConversation("", text, text, text, text, 0.0, 0.0, (question, answer))


class Page(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_our_own_json_comes_back_whole(store: Store, tmp_path: Path, form: str) -> None:
    talk = a_talk(store)
    before = store.load(talk, branches=True)
    reading = read_conversations(export_all([before, said("other")], form), 9.0)
    assert reading.skipped == {}
    with closing(Store.open(tmp_path / "other.db")) as other:
        other.add_question(other.start("m", "", ""), None, "moves the rows")
        assert [bool(each) for each in other.add_imported(reading.conversations)] == [True, True]
        after = other.load(talk, branches=True)
        assert export(after, "md") == export(before, "md")
        assert [(b.words, b.turns, b.model, b.current) for b in other.branches(talk)] == [
            ("by m/two", 2, "m/two", True),
            ("by m/three", 2, "m/three", False),
        ]
        answer, original = after.messages[1], before.messages[1]
        for name in ("settings", "revision", "cached_tokens", "seconds", "finish_reason", "created_at", "reasoning"):
            assert getattr(answer, name) == getattr(original, name), name
        assert after.messages[0].attachments == (Attachment("a.txt", 3, "ff", "abc"),)
        assert (after.title, after.created_at, after.updated_at) == (before.title, before.created_at, before.updated_at)
        assert other.add_imported(reading.conversations) == ["", ""], "the same again brings nothing new"
        assert len(other.search("你好", 5)) == 1


def test_json_has_the_messages_of_openai(store: Store) -> None:
    document = json.loads(export(store.load(a_talk(store), branches=True), "json"))
    assert [(each["role"], each["content"]) for each in document["messages"]] == [
        ("system", "Be brief."), ("user", "q1 你好"), ("assistant", "a1"), ("user", "q2"), ("assistant", "by m/two"),
    ]  # fmt: skip
    assert [each["content"] for each in document["others"]] == ["by m/three"]


def test_a_page_runs_nothing_and_fetches_nothing() -> None:
    page = export(said(HOSTILE), "html")
    parsed = Page(page)
    allowed = "html head meta title style body section header h1 p article div details summary pre code a br em strong"
    assert parsed.tags <= set(allowed.split())
    names = {name for name, _ in parsed.attributes}
    assert names <= {"lang", "charset", "http-equiv", "content", "name", "class", "href"}
    assert not [value for name, value in parsed.attributes if name == "href" and not value.startswith("http")]
    assert "default-src 'none'" in page and "\x1b" not in page and "prefers" not in page
    assert page.count("<style>") == 1 and "light dark" in page
    assert not re.search(r"url\(|@import|src=\"", page.split("</style>")[0])


@settings(max_examples=40)
@given(text=st.text(max_size=60))
def test_no_text_makes_a_tag_of_its_own(text: str) -> None:
    assert not Page(export(said(text), "html")).tags & {"script", "img", "iframe", "link", "object", "form", "svg"}


@pytest.mark.parametrize(
    "text",
    [
        "```python\ncode", "````\n```\ncode", "~~~\nx", "  ```\n  x", "1. a\n   ```\n   b", "- ```\n  c", "<!-- open",
        "<pre>\nopen", "<script>", "> ```\n> quoted", "```\nclosed\n```", "text", "", "    ```", "# heading", "<?php",
        "~~~~ md\n```\nx\n```\n~~~",
    ],
)  # fmt: skip
def test_what_a_reply_leaves_open_does_not_take_in_the_rest(text: str) -> None:
    whole = export(said(text), "md")
    assert text.strip("\n") in whole
    tokens = MarkdownIt("commonmark").parse(whole)
    headings = [
        tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open" and token.level == 0
    ]
    assert [heading for heading in headings if heading in ("System", "You")][-1] == "You"


def test_fences_come_through_as_they_stand() -> None:
    code = "Look:\n\n```python\nprint('``` not the end')\n\n\n# no heading\n```\n\nDone."
    assert code in export(said(code), "md")


@pytest.mark.parametrize("form", FORMS)
def test_escape_codes_are_in_no_export_for_people(form: str) -> None:
    assert "\x1b" not in export(said("\x1b[31mred"), form)


def by(name: str, *parts: object) -> list[dict[str, object]]:
    """Messages of ShareGPT (`name` is "from") or OpenAI: who, what, who, what ..."""
    text = "value" if name == "from" else "content"
    return [{name: who, text: what} for who, what in zip(parts[::2], parts[1::2], strict=True)]


TALK = ("user", "q", "assistant", "a")
PARTS = [{"type": "text", "text": "q"}, {"type": "image_url"}]
OTHERS: list[tuple[object, dict[str, int]]] = [
    ({"id": "x", "conversations": by("from", "system", "S", "human", "q", "gpt", "a")}, {}),
    ({"messages": by("role", "developer", "S", *TALK)}, {}),
    (
        by("role", "system", "S", "user", PARTS, "tool", "t", "assistant", "a"),
        {"image_url": 1, "message of tool": 1},
    ),
    (
        {"messages": [*by("role", "assistant", "Hi", "system", "S", *TALK, "user", None), 3]},
        {"answer before the first question": 1, "empty message": 1, "message without a role": 1},
    ),
]


@pytest.mark.parametrize(("item", "skipped"), OTHERS)
@pytest.mark.parametrize("shape", ["alone", "list", "lines"])
def test_conversations_of_others(store: Store, item: object, skipped: dict[str, int], shape: str) -> None:
    line = json.dumps(item)
    text = {"alone": line, "list": f"\ufeff[{line}]", "lines": f"{line}\r\n\n"}[shape]
    reading = read_conversations(text, 5.0)
    assert reading.skipped == skipped
    (talk,) = store.add_imported(reading.conversations)
    stored = store.load(talk)
    assert (stored.system, stored.title) == ("S", "q")
    assert [(each.role, each.text) for each in stored.messages] == [("user", "q"), ("assistant", "a")]
    assert store.add_imported(read_conversations(text, 6.0).conversations) == [""]


def test_two_messages_in_a_row_by_one_side_are_one() -> None:
    item = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    (conversation,) = read_conversations(json.dumps(item), 0.0).conversations
    assert [each.text for each in conversation.messages] == ["a\n\nb"]


@pytest.mark.parametrize("text", ["", "not json", "{", "[" * 100_000])
def test_what_is_no_json_is_an_error_or_nothing(text: str) -> None:
    try:
        assert read_conversations(text, 0.0).conversations == ()
    except UsageError as error:
        assert "JSON" in str(error)


NAMES = "chatcli messages others role content id parent from value created_at settings attachments size conversations"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=5),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system", "x"]),
        **dict.fromkeys(("content", "id", "parent", "created_at", "attachments", "seconds"), JSON),
    }
)
OWN = st.fixed_dictionaries({"chatcli": st.just(1), "messages": st.lists(MESSAGE)})


@settings(max_examples=60)
@given(item=JSON | OWN)
def test_any_json_is_taken_in_or_said_to_be_none(item: object) -> None:
    reading = read_conversations(json.dumps(item), 1.0)
    with closing(Store.in_memory()) as store:
        for talk in store.add_imported(reading.conversations):
            assert talk == "" or store.load(talk).id == talk
