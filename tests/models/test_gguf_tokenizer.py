"""Tokenizers out of GGUF metadata: the same ids as those of the files that they were made from."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from chatcli.errors import BrokenCheckpoint
from chatcli.models import gguf_tokenizer
from chatcli.models.gguf_file import GgufFile
from chatcli.models.gguf_tokenizer import read_tokenizer, tokenizer_config

TEXT = [
    "Hello there, how are you today? I am fine, thank you.",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "你好，请介绍一下北京。谢谢！再讲一个笑话吧。",
    "def f(x):\n    return x + 1\n",
]


def of(metadata: dict[str, Any], architecture: str = "llama") -> GgufFile:
    said = {f"tokenizer.{key}": value for key, value in metadata.items()}
    return GgufFile((Path("model.gguf"),), {"general.architecture": architecture, **said}, {})


def byte_level(folder: Path, **more: Any) -> tuple[GgufFile, Tokenizer]:
    original = Tokenizer.from_file(str(folder / "tokenizer.json"))
    said = json.loads((folder / "tokenizer.json").read_text())
    size = original.get_vocab_size()
    special = {each["id"] for each in said["added_tokens"]}
    metadata = {
        "ggml.model": "gpt2",
        "ggml.pre": "gpt-2",
        "ggml.tokens": [original.id_to_token(number) for number in range(size)],
        "ggml.token_type": [3 if number in special else 1 for number in range(size)],
        "ggml.merges": [" ".join(merge) for merge in said["model"]["merges"]],
        "ggml.eos_token_id": 2,
        **more,
    }
    return of(metadata), original


@pytest.fixture(scope="module")
def both(tiny_llama: Path) -> tuple[Tokenizer, Tokenizer]:
    file, original = byte_level(tiny_llama)
    return read_tokenizer(file), original


@given(
    text=st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([*TEXT, "<|im_start|>user\nHi<|im_end|>"])
)
def test_byte_level_vocabularies_encode_as_their_origin(both, text: str) -> None:
    made, original = both
    ids = original.encode(text, add_special_tokens=False).ids
    assert made.encode(text, add_special_tokens=False).ids == ids
    assert made.decode(ids, skip_special_tokens=False) == original.decode(ids, skip_special_tokens=False)
    assert made.decode(ids) == original.decode(ids)


def test_special_tokens_and_templates_are_told(tiny_llama: Path) -> None:
    file, _ = byte_level(tiny_llama, **{"chat_template": "{{ messages }}", "chat_template.tool_use": "{{ tools }}"})
    said = tokenizer_config(file)
    assert said["eos_token"] == "<|im_end|>"
    assert {each["content"] for each in said["added_tokens_decoder"].values() if each["special"]} == {
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    }
    assert said["chat_template"] == [
        {"name": "default", "template": "{{ messages }}"},
        {"name": "tool_use", "template": "{{ tools }}"},
    ]


@pytest.mark.parametrize("split", sorted(gguf_tokenizer._SPLITS))
def test_every_way_to_split_a_text_loses_nothing(tiny_llama: Path, split: str) -> None:
    file, _ = byte_level(tiny_llama, **{"ggml.pre": split})
    made = read_tokenizer(file)
    for text in (*TEXT, "It's 12345 o'clock:\r\n\n  ÄÖ été 한국어 I'LL go…\t!"):
        assert made.decode(made.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize(
    ("split", "text", "words"),
    [
        ("llama-bpe", "It's 12345\n\nHELLO World", ["It", "'s", "Ġ", "123", "45", "ĊĊ", "HELLO", "ĠWorld"]),
        ("qwen2", "It's 12345\n\nHELLO", ["It", "'s", "Ġ", *"12345", "ĊĊ", "HELLO"]),
        ("smollm", "a1 23", ["a", "1", "Ġ", "2", "3"]),
        ("tekken", "HELLOWorldHELLO a12", ["HELLOWorld", "HELLO", "Ġa", "1", "2"]),
        ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", "Ġ", "123", "4"]),
        ("deepseek-v3", "1234北京ab", ["123", "4", "北京", "ab"]),
        ("gpt-2", "It's 12345  x", ["It", "'s", "Ġ12345", "Ġ", "Ġx"]),
    ],
)
def test_how_texts_are_split(tiny_llama: Path, split: str, text: str, words: list[str]) -> None:
    file, _ = byte_level(tiny_llama, **{"ggml.pre": split})
    found = read_tokenizer(file).pre_tokenizer.pre_tokenize_str(text)
    spelled = [bytes(w, "utf-8").decode() for w in words]
    from tokenizers.pre_tokenizers import ByteLevel

    level = ByteLevel(add_prefix_space=False, use_regex=False)
    expected = [w if w[0] in "ĠĊ" else level.pre_tokenize_str(w)[0][0] for w in spelled]
    assert [word for word, _ in found] == expected


@pytest.fixture(scope="module")
def sentencepiece_model() -> Any:
    import sentencepiece

    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_writer=content,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        character_coverage=0.99,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())


def pieces(model: Any, **more: Any) -> GgufFile:
    def kind(number: int) -> int:
        checks = ((model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6))
        return next((found for check, found in checks if check(number)), 1)

    numbers = range(model.get_piece_size())
    return of(
        {
            "ggml.model": "llama",
            "ggml.tokens": [model.id_to_piece(number) for number in numbers],
            "ggml.scores": [model.get_score(number) for number in numbers],
            "ggml.token_type": [kind(number) for number in numbers],
            "ggml.bos_token_id": 1,
            "ggml.eos_token_id": 2,
            **more,
        }
    )


@pytest.mark.parametrize("text", [*TEXT, " two  spaces ", "🙂 emoji", "a\nb\n\nc", "naïve 12"])
def test_pieces_encode_as_sentencepiece_does(sentencepiece_model, text: str) -> None:
    made = read_tokenizer(pieces(sentencepiece_model))
    ids = sentencepiece_model.encode(text)
    assert made.encode(text, add_special_tokens=False).ids == ids
    assert made.decode(ids) == text


def test_a_vocabulary_that_wants_no_space_in_front(sentencepiece_model) -> None:
    made = read_tokenizer(pieces(sentencepiece_model, **{"ggml.add_space_prefix": False}))
    assert made.encode("you", add_special_tokens=False).tokens[0][0] != "▁"
    assert made.encode("<s>you", add_special_tokens=False).ids[0] == 1


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"ggml.model": "gpt2"}, "has no tokenizer"),
        ({"ggml.model": "rwkv", "ggml.tokens": ["a"]}, "of the kind rwkv"),
        ({"ggml.model": "gpt2", "ggml.pre": "martian", "ggml.tokens": ["a"]}, "martian"),
        ({"ggml.model": "gpt2", "ggml.tokens": ["a", "b"], "ggml.token_type": [1]}, "differ in length"),
        ({"ggml.model": "gpt2", "ggml.tokens": ["a", "b"], "ggml.merges": ["a x"]}, "contradicts itself"),
    ],
)
def test_what_is_wrong_with_a_vocabulary_is_said(metadata: dict[str, Any], says: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=says) as error:
        read_tokenizer(of(metadata))
    assert str(error.value).startswith("model.gguf")
