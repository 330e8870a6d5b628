"""Lines in, lines out: what a line may be, and a journal that survives a kill at any byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatcli.batches import Journal, Refused, Request, fingerprint, read
from chatcli.conversation import Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings

BASE = GenerationSettings(temperature=0.5, seed=1)


def lines(*said: object) -> list[Request | Refused]:
    return list(
        read("\n".join(text if isinstance(text, str) else json.dumps(text) for text in said), BASE, "Be brief.")
    )


def test_a_line_is_a_text_a_prompt_or_messages() -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    found = lines('"你好"', "", {"prompt": "x", "id": 7, "max_tokens": 5, "system": ""}, {"messages": talk})
    brief = Message("system", "Be brief.")
    assert found == [
        Request(1, Conversation((brief, Message("user", "你好"))), BASE),
        Request(
            3,
            Conversation((Message("user", "x"),)),
            GenerationSettings(temperature=0.5, seed=1, max_new_tokens=5),
            {"id": 7},
        ),
        Request(4, Conversation((brief, Message("user", "a"), Message("assistant", "b"), Message("user", "c"))), BASE),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "text or an object"),
        ('{"promt": "x"}', "did you mean 'prompt'"),
        ('{"prompt": "x", "messages": []}', "either prompt or messages"),
        ('{"prompt": " "}', "not empty"),
        ('{"prompt": 3}', "a text as its content"),
        ('{"messages": "x"}', "Each message"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "last message"),
        ('{"prompt": "x", "temperature": -1}', "temperature cannot be -1"),
        ('{"prompt": "x", "system": 3}', "system must be a text"),
        (
            '{"system": "a", "messages": [{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]}',
            "twice",
        ),
    ],
)
def test_a_line_that_cannot_be_asked_is_refused_alone(line: str, said: str) -> None:
    refused, good = lines(line, '"fine"')
    assert isinstance(refused, Refused) and said in refused.error
    assert isinstance(good, Request) and good.line == 2


def test_a_line_keeps_what_its_author_knows_it_by() -> None:
    good, refused = lines({"prompt": "x", "id": [1], "metadata": {"k": 2}}, {"promt": "x", "metadata": 3})
    assert (good.named, refused.named) == ({"id": [1], "metadata": {"k": 2}}, {"metadata": 3})


def test_a_journal_cut_at_any_byte_goes_on_with_the_whole_answers(tmp_path: Path) -> None:
    target, journal_file = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    journal = Journal(target, "f")
    for line, text in ((2, "zwei — 二"), (1, "eins")):
        journal.add(line, {"text": text})
    journal.close()
    whole = journal_file.read_bytes()
    for cut in range(len(whole) + 1):
        journal_file.write_bytes(whole[:cut])
        again = Journal(target, "f")
        for line, text in ((1, "eins"), (2, "zwei — 二")):
            if line not in again.done:
                again.add(line, {"text": text})
        again.finish()
        assert [json.loads(text) for text in target.read_text().splitlines()] == [
            {"line": 1, "text": "eins"},
            {"line": 2, "text": "zwei — 二"},
        ]
        assert not journal_file.exists()


def test_an_answer_may_hold_any_character_and_is_there_after_a_kill(tmp_path: Path) -> None:
    odd = {"id": "\ud800", "text": "a\u2028b\x85c\u2029d\r\n\x1ce"}
    journal = Journal(tmp_path / "out.jsonl", "f")
    journal.add(1, odd)
    journal.close()
    again = Journal(tmp_path / "out.jsonl", "f")
    assert again.done == {1}
    again.finish()
    written = (tmp_path / "out.jsonl").read_bytes().removesuffix(b"\n")
    assert b"\n" not in written
    assert json.loads(written) == {"line": 1, "id": "?", "text": odd["text"]}


def test_what_a_power_cut_spoiled_is_asked_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl", "f")
    journal.add(1, {"text": "a"})
    journal.close()
    with (tmp_path / "out.jsonl.part").open("ab") as file:
        file.write(b"\0\0\0\n" + b'{"line": 3, "text": "c"}\n')
    again = Journal(tmp_path / "out.jsonl", "f")
    assert again.done == {1}
    again.add(2, {"text": "b"})
    again.finish()
    assert [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["a", "b"]


def test_two_runs_never_write_the_same_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "out.jsonl", "f")
    with pytest.raises(UsageError, match="another run"):
        Journal(tmp_path / "out.jsonl", "f")
    first.add(1, {"text": "a"})
    first.close()
    assert Journal(tmp_path / "out.jsonl", "f").done == {1}


def test_a_journal_without_an_answer_is_in_nobodys_way(tmp_path: Path) -> None:
    """A model that could not be had left an empty journal, which refused the same questions to the next model."""
    Journal(tmp_path / "out.jsonl", "f").close()
    assert list(tmp_path.iterdir()) == []
    assert Journal(tmp_path / "out.jsonl", "g").done == frozenset()


def test_answers_of_another_revision_or_model_are_not_mixed() -> None:
    one = fingerprint("a", "m", "", BASE, "")
    assert len({one, fingerprint("a", "m", "v2", BASE, ""), fingerprint("a", "n", "", BASE, "")}) == 3


def test_a_journal_of_other_questions_is_not_touched(tmp_path: Path) -> None:
    first = Journal(tmp_path / "out.jsonl", fingerprint("a", "m", "", BASE, ""))
    first.add(1, {"error": "no"})
    assert first.failed == 1
    first.close()
    kept = (tmp_path / "out.jsonl.part").read_bytes()
    with pytest.raises(UsageError, match="other questions"):
        Journal(tmp_path / "out.jsonl", fingerprint("b", "m", "", BASE, ""))
    assert (tmp_path / "out.jsonl.part").read_bytes() == kept
    with pytest.raises(UsageError, match="cannot be written"):
        Journal(tmp_path / "no" / "out.jsonl", "f")
