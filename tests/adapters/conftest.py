"""Tiny tokenizers of the kinds that are in use, trained on a few sentences."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SENTENCES = [
    "The capital of France is Paris, and two million people live there.",
    "你好，请介绍一下北京。北京是中国的首都。",
    "def main():\n    print('hello world')\n\nuser assistant system model USER ASSISTANT",
    "im_start im_end endoftext eot_id start_header_id INST think end",
]
SPECIAL = [
    "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>",
    "<|start_header_id|>", "<|end_header_id|>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<|user|>",
    "<|assistant|>", "<|system|>", "<|end|>", "[INST]", "[/INST]",
]  # fmt: skip
ADDED = ["<think>", "</think>"]


def add_tokens(tokenizer: Tokenizer, special: Sequence[str], *, normalized: bool = False) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(t, normalized=normalized, special=True) for t in special])
    return tokenizer


def with_ours(tokenizer: Tokenizer) -> Tokenizer:
    add_tokens(tokenizer, SPECIAL).add_tokens([AddedToken(t, normalized=False) for t in ADDED])
    return tokenizer


def byte_level() -> Tokenizer:
    """As Qwen, Llama 3 and GPT-2: bytes, no space before the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return tokenizer


def _pieces() -> dict[str, int]:
    words = ["▁", "▁the", "▁is", "▁Hello", "▁Paris", "Hello", "Paris", "the"]
    letters = sorted(set("".join(SENTENCES)) - {" ", "\n"})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *letters, *words]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def _merges(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Merges that build each longer piece from its first letters on."""
    merges = []
    for piece in [p for p in vocabulary if len(p) > 1 and not p.startswith("<")]:
        for n in range(1, len(piece)):
            vocabulary.setdefault(piece[:n], len(vocabulary))
            pair = (piece[:n], piece[n])
            vocabulary.setdefault(piece[: n + 1], len(vocabulary))
            if pair not in merges:
                merges.append(pair)
    return merges


def prepending() -> Tokenizer:
    """As Llama 2 and Mistral 7B: a normaliser writes ▁ before the text and for each space."""
    vocabulary = _pieces()
    merges = _merges(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def metaspace() -> Tokenizer:
    """As Unigram models: Metaspace before the first word."""
    pieces = [(piece, -float(i % 7) - 1) for piece, i in _pieces().items()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Metaspace(prepend_scheme="first"), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def wordpiece() -> Tokenizer:
    """As BERT: lower case without accents before anything is looked for, then pieces of words."""
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789", *string.punctuation, *"北京你好，。"})
    pieces = ["[UNK]", *letters, *(f"##{c}" for c in letters), "the", "paris"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


KINDS = {"byte-level": byte_level, "prepend": prepending, "metaspace": metaspace, "wordpiece": wordpiece}
TOKENIZERS = {name: with_ours(make()) for name, make in KINDS.items() if name != "wordpiece"}


@pytest.fixture(params=sorted(TOKENIZERS))
def tiny_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


@pytest.fixture(scope="session")
def make_tokenizers() -> Callable[[Sequence[str]], list[Tokenizer]]:
    """Tokenizers of every kind that hold `special` tokens; some look for them only after they have changed letters."""
    bare = {name: make().to_str() for name, make in KINDS.items()}

    def make(special: Sequence[str]) -> list[Tokenizer]:
        kinds = [*((name, False) for name in KINDS), ("metaspace", True), ("wordpiece", True)]
        return [add_tokens(Tokenizer.from_str(bare[name]), special, normalized=after) for name, after in kinds]

    return make


@pytest.fixture(scope="session")
def control_texts() -> frozenset[str]:
    return frozenset([*SPECIAL, *ADDED])
