"""From a reply's ids to events: what ends it, what is held back, what is never shown."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.row import Adapter
from chatcli.adapters.table import Table
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine
from chatcli.engines.reply import Reply
from chatcli.generation import Finished, GenerationSettings, Reasoning, Text
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer

SPECIAL = ["<|end|>", "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "</s>"]
HARMONY = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant", "<|channel|>final<|message|>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thing")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "thing", "eos_token_id": 5}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "chat_template": "{{ messages }}"}))
    return folder


def chat_of(folder: Path, **row: object) -> ChatFormat:
    checkpoint = open_checkpoint(folder)
    table = Table((Adapter("thing", model_type=("thing",), **row),))  # type: ignore[arg-type]
    return chat_format(checkpoint, read_tokenizer(checkpoint), table)


def played(chat: ChatFormat, text: str, *stops: str) -> tuple[str, str, str]:
    """What a model's reply becomes: answer, reasoning, and what ended it: "id", "text" or "nothing"."""
    reply = Reply(chat, GenerationSettings(stop=stops), inside=False)
    events, ended = [], "nothing"
    for token in chat.tokenizer.encode(text, add_special_tokens=False).ids:
        if token in chat.end | reply.end:
            ended = "id"
            break
        events += [reply.show(event) for event in reply.push(token)]
        if reply.stopped:
            ended = "text"
            break
    events += [reply.show(event) for event in reply.flush(ended=True)]
    shown, thought = ("".join(e.text for e in events if isinstance(e, kind)) for kind in (Text, Reasoning))
    assert reply.shown == Message("assistant", shown, thought)
    return shown, thought, ended


def test_the_end_token_ends_a_reply(folder: Path) -> None:
    assert played(chat_of(folder), "Hi.</s> more") == ("Hi.", "", "id")


def test_a_stop_that_is_a_special_token_ends_a_reply_though_it_is_never_decoded(folder: Path) -> None:
    assert played(chat_of(folder), "Hi.<|end|>more", "<|end|>") == ("Hi.", "", "id")
    assert played(chat_of(folder, stop=("<|end|>",)), "Hi.<|end|>more") == ("Hi.", "", "id")
    assert played(chat_of(folder, stop_tokens=("<|end|>",)), "Hi.<|end|>more") == ("Hi.", "", "id")
    assert played(chat_of(folder), "Hi.<|end|>more") == ("Hi.more", "", "nothing")


def test_a_stop_that_holds_a_special_token_is_found_and_the_token_never_shown(folder: Path) -> None:
    chat = chat_of(folder)
    assert played(chat, "Hi.<|start|>user says", "<|start|>user") == ("Hi.", "", "text")
    assert played(chat, "Hi.<|start|>assistant says", "<|start|>user") == ("Hi.assistant says", "", "nothing")
    assert played(chat, "Hi.<|start|>us", "<|start|>user") == ("Hi.us", "", "nothing")


def test_a_stop_text_is_held_back_and_never_shown_or_cut_early(folder: Path) -> None:
    chat = chat_of(folder, stop=("\n### Human:",))
    assert played(chat, "Use\n### headings\n### Human: hi") == ("Use\n### headings", "", "text")
    assert played(chat, "ends in\n### Hum") == ("ends in\n### Hum", "", "nothing")


@given(st.text(st.sampled_from("ab#\n "), max_size=30))
def test_all_is_shown_up_to_the_first_stop(folder: Path, text: str) -> None:
    stops = ("\n###", "ab a")
    shown, _, ended = played(chat_of(folder), "x" + text, *stops)
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    assert shown == "x" + (text[: min(ends)[1]] if ends else text)
    assert ended == ("text" if ends else "nothing")


class Dictated:
    """A model that says what it is told to, up to an end id."""

    device, precision, most_tokens_per_second = "none", "text", 0.0
    logprobs = ()

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def pictures(self, tokenizer: object) -> None:
        """It reads text only."""

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: object = None,
        images: Sequence[object] = (),
    ) -> Generator[int, None, bool]:
        for token in self._ids[:limit]:
            if token in end:
                return True
            yield token
        return False

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize(("stop", "answer", "reason"), [("<|end|>", "Hi.", "stop"), ("x", "Hi.more", "length")])
def test_the_engine_ends_at_a_stop_string_that_is_a_special_token(
    folder: Path, stop: str, answer: str, reason: str
) -> None:
    chat = chat_of(folder)
    said = chat.tokenizer.encode("Hi.<|end|>more", add_special_tokens=False).ids
    engine = LocalEngine(open_checkpoint(folder), chat, Dictated(said))  # type: ignore[arg-type]
    events = list(engine.stream(Conversation((Message("user", "?"),)), GenerationSettings(stop=(stop,))))
    assert "".join(event.text for event in events if isinstance(event, Text)) == answer
    assert [event.reason for event in events if isinstance(event, Finished)] == [reason]


@pytest.mark.parametrize(
    ("said", "answer", "reasoning"),
    [
        (HARMONY[0] + "Hm, 4." + HARMONY[1] + HARMONY[2] + "It is 4.<|return|>", "It is 4.", "Hm, 4."),
        (HARMONY[2] + "It is 4.<|return|>", "It is 4.", ""),
        ("It is 4.<|return|>", "It is 4.", ""),
        (HARMONY[0] + "a" + HARMONY[1] + HARMONY[0] + "b" + HARMONY[1] + HARMONY[2] + "c<|return|>", "c", "ab"),
        (HARMONY[0] + "cut off", "", "cut off"),
    ],
)
def test_the_channels_of_harmony_are_told_apart_by_the_row(
    folder: Path, said: str, answer: str, reasoning: str
) -> None:
    chat = chat_of(folder, reasoning=HARMONY, stop_tokens=("<|return|>",))
    assert played(chat, said)[:2] == (answer, reasoning)
