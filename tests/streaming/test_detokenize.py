"""Ids to text: all pieces together are what `decode` makes of all ids, and no piece holds half a character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from chatcli.streaming.detokenize import MAX_PENDING, Detokenizer

TEXT = st.text(st.sampled_from("ab c\n.你好é👩\u200d👧\ufffd"), max_size=20)
BYTE_LEVEL_SIZE, BYTE_FALLBACK_SIZE = 320, 267


@cache
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Chinese in the training text gives tokens that end within characters and begin within others.
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_LEVEL_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["你好 ab 你们好 hello 👩\u200d👧 é"] * 5, trainer)
    tokenizer.add_special_tokens([AddedToken("<think>", special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return tokenizer


@cache
def byte_fallback(*, sequence: bool = True) -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "c", "▁a", "▁b", "."]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "你"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = (
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        if sequence
        else decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


@cache
def words() -> Tokenizer:
    return Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))


def pieces_of(tokenizer: Tokenizer, ids: list[int], keep: frozenset[int] = frozenset()) -> list[str]:
    detokenizer = Detokenizer(tokenizer, keep=keep)
    return [*(detokenizer.push(each) for each in ids), detokenizer.flush()]


@given(TEXT)
def test_encoded_text_byte_level(text: str) -> None:
    ids = byte_level().encode(text).ids
    assert "".join(pieces_of(byte_level(), ids)) == byte_level().decode(ids) == text


@pytest.mark.parametrize("sequence", [True, False])
@given(text=TEXT)
def test_encoded_text_byte_fallback(text: str, *, sequence: bool) -> None:
    tokenizer = byte_fallback(sequence=sequence)
    ids = tokenizer.encode(text).ids
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids)


@given(st.lists(st.integers(0, BYTE_LEVEL_SIZE + 1), max_size=MAX_PENDING))
def test_any_ids_byte_level(ids: list[int]) -> None:
    pieces = pieces_of(byte_level(), ids)
    assert "".join(pieces) == byte_level().decode(ids)


@given(st.lists(st.integers(0, BYTE_FALLBACK_SIZE - 1), max_size=20))
def test_any_ids_byte_fallback(ids: list[int]) -> None:
    """`decode` turns all bytes of a run into U+FFFD when one is wrong; the pieces keep the good ones.

    A byte that is none of a character's is one U+FFFD, as SentencePiece has it.
    """
    tokenizer = byte_fallback()
    words = [tokenizer.id_to_token(each) for each in ids if each not in (1, 2)]
    expected = b"".join(
        bytes.fromhex(word[3:5]) if word.startswith("<0x") else word.replace("▁", " ").encode() for word in words
    ).decode(errors="surrogateescape")
    expected = re.sub("[\udc80-\udcff]", "\ufffd", expected)
    assert "".join(pieces_of(tokenizer, ids)) == expected.removeprefix(" ")


@given(st.lists(st.sampled_from([0, 1]), max_size=6))
def test_no_decoder(ids: list[int]) -> None:
    assert "".join(pieces_of(words(), ids)) == words().decode(ids)


@given(TEXT)
def test_no_piece_is_half_a_character(text: str) -> None:
    ids = byte_level().encode(text.replace("\ufffd", "")).ids
    assert not any("\ufffd" in piece for piece in pieces_of(byte_level(), ids))


def test_a_character_comes_with_its_last_token() -> None:
    ids = byte_fallback().encode("é a").ids
    assert pieces_of(byte_fallback(), ids) == ["", "", "é", " ", "a", ""]


@pytest.mark.parametrize(("tokenizer", "missing"), [(byte_level(), 1), (byte_fallback(), 3)], ids=["level", "fallback"])
def test_an_incomplete_end_is_replaced_as_decode_does(tokenizer: Tokenizer, missing: int) -> None:
    ids = tokenizer.encode("a 𝄞").ids[:-1]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces[:-1]).rstrip() == "a"
    assert pieces[-1] == "\ufffd" * missing


def test_endless_wrong_bytes_are_shown_as_they_come() -> None:
    wrong = byte_level().token_to_id("Ģ")  # 0x80, which begins no character
    pieces = pieces_of(byte_level(), [wrong] * 500)
    assert "".join(pieces) == "\ufffd" * 500
    assert max(map(len, pieces)) <= 2


class Watched:
    """A tokenizer that notes the longest list it had to decode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.longest = 0

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        self.longest = max(self.longest, len(ids))
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def id_to_token(self, id: int) -> str | None:  # noqa: A002 -- tokenizers names it so
        return self.tokenizer.id_to_token(id)

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        return self.tokenizer.get_added_tokens_decoder()


@pytest.mark.parametrize("text", ["a", "Ģ"], ids=["letters", "wrong bytes"])
def test_a_token_costs_the_same_however_long_the_reply(text: str) -> None:
    watched = Watched(byte_level())
    detokenizer = Detokenizer(watched)
    for _ in range(1000):
        detokenizer.push(byte_level().token_to_id(text))
    assert watched.longest <= 2 * (MAX_PENDING + 1)


def test_nothing_is_lost_where_the_wait_for_a_character_was_given_up() -> None:
    first, second, third, letter = (byte_level().token_to_id(token) for token in ("ä", "½", "ł", "a"))
    ids = [*[first] * (MAX_PENDING + 1), second, third, letter]
    assert "".join(pieces_of(byte_level(), ids)) == "\ufffd" * (MAX_PENDING + 3) + "a"


def test_special_tokens_are_skipped_unless_kept() -> None:
    tokenizer = byte_level()
    think, end, tool = (tokenizer.token_to_id(token) for token in ("<think>", "</s>", "<tool>"))
    (a,) = tokenizer.encode("a").ids
    assert "".join(pieces_of(tokenizer, [think, a, tool, end])) == "a<tool>"
    assert "".join(pieces_of(tokenizer, [think, a, end], keep=frozenset([think]))) == "<think>a"


def test_flush_begins_a_new_text() -> None:
    detokenizer = Detokenizer(byte_fallback())
    word = byte_fallback().token_to_id("▁a")
    assert [detokenizer.push(word), detokenizer.push(word), detokenizer.flush()] == ["a", " a", ""]
    assert detokenizer.push(word) == "a"
