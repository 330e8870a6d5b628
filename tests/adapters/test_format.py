"""A checkpoint's files, its row and its tokenizer brought together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken

from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.prompt import Templates
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer


def opened(folder: Path, tmp_path: Path, generation: dict[str, object], name: str = "") -> ChatFormat:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "generation_config.json").write_text(json.dumps(generation))
    checkpoint = open_checkpoint(copy, name)
    return chat_format(checkpoint, read_tokenizer(checkpoint), shipped())


def test_the_checkpoint_comes_before_the_row(tiny_llama: Path, tmp_path: Path) -> None:
    chat = opened(tiny_llama, tmp_path, {"temperature": 0.6})
    assert [layer.origin for layer in chat.layers] == ["generation_config.json"]
    assert chat.defaults == GenerationSettings(temperature=0.6)
    vicuna = opened(tiny_llama, tmp_path / "again", {"temperature": 0.6}, name="llama-3-instruct")
    assert [layer.origin for layer in vicuna.layers] == ["generation_config.json", "the row llama-3"]
    assert (vicuna.defaults.temperature, vicuna.defaults.top_p) == (0.6, 0.9)


def test_the_row_that_a_person_names_goes_over_the_checkpoint(tiny_llama: Path) -> None:
    """The fixture has a template of its own, and neither its name nor its type knows that row."""
    checkpoint = open_checkpoint(tiny_llama)
    chat = chat_format(checkpoint, read_tokenizer(checkpoint), shipped().saying("Vicuna_v1.1"))
    assert chat.row == "vicuna_v1.1"
    assert "--adapter" in chat.templates.origin
    prompt = chat.tokenizer.decode(chat.encode(Conversation((Message("user", "Hi"),))))
    assert prompt.endswith("USER: Hi ASSISTANT:")
    with pytest.raises(UsageError, match=r"There is no adapter vicunya_v1\.1: did you mean vicuna_v1\.1\?"):
        shipped().saying("vicunya_v1.1")


def test_a_person_is_told_what_the_template_cannot_do(tiny_llama: Path, tmp_path: Path) -> None:
    """CHATML of the fixture has no switch for thinking; the second template drops system messages."""
    talk = Conversation((Message("user", "Hi"),)).with_system("Be kind.")
    chat = opened(tiny_llama, tmp_path, {})
    assert list(chat.notes(talk, GenerationSettings())) == []
    assert ["no switch for thinking" in note for note in chat.notes(talk, GenerationSettings(think=True))] == [True]
    deaf = replace(chat, templates=Templates({"default": "{{ messages[-1].content }}"}, "x"))
    assert ["no place for a system message" in note for note in deaf.notes(talk, GenerationSettings())] == [True]
    assert list(deaf.notes(talk.with_system(""), GenerationSettings())) == []


@pytest.mark.parametrize(("declared", "end"), [(5, {2, 5}), ([5, 6], {2, 5, 6}), (None, {2})])
def test_every_declared_end_ends_a_reply(tiny_llama: Path, tmp_path: Path, declared: object, end: set[int]) -> None:
    """The tokenizer's own <|im_end|> is id 2, and so is the eos_token_id of config.json."""
    assert opened(tiny_llama, tmp_path, {"eos_token_id": declared}).end == end


def test_no_token_of_the_row_or_of_a_converted_tokenizer_can_be_typed(tiny_llama: Path, tmp_path: Path) -> None:
    """Neither is in the template, and of the second the checkpoint's files say nothing."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_llama, copy)
    checkpoint = open_checkpoint(copy, "DeepSeek-R1-tiny")
    tokenizer = read_tokenizer(checkpoint)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.save(str(copy / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<|hidden|>", normalized=False)])
    chat = chat_format(checkpoint, tokenizer, shipped())
    ids = chat.encode(Conversation((Message("user", "a <think> b <|hidden|> c"),)))
    assert chat.row == "deepseek-r1"
    assert {tokenizer.token_to_id("<think>"), tokenizer.token_to_id("<|hidden|>")}.isdisjoint(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False).count("a <think> b <|hidden|> c") == 1
