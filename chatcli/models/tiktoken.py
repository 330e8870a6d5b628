"""tiktoken's rank files, and a `tokenizers.Tokenizer` that makes the same ids of them.

The file has a line a token: its bytes in base64, a space, its rank, which is its id. The pattern that cuts a text
into words and the special tokens are not in the file: the caller brings them. This module knows no family.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli.errors import BrokenCheckpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_ranks(path: Path) -> dict[bytes, int]:
    """The tokens of a rank file, the lowest rank first.

    Raises:
        BrokenCheckpoint: the file cannot be read, is no rank file, or its ranks have gaps.
    """
    if not path.is_file():
        raise BrokenCheckpoint(f"{path} is missing, and the model has no other tokenizer: download the model again.")
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line:
                token, _, rank = line.partition(b" ")
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (OSError, ValueError) as error:
        raise BrokenCheckpoint(f"{path} cannot be read as a tiktoken file: download the model again.") from error
    ordered = dict(sorted(ranks.items(), key=lambda entry: entry[1]))
    if not ordered or list(ordered.values()) != list(range(len(ordered))):
        raise BrokenCheckpoint(f"{path} is cut off or no tiktoken file: download the model again.")
    return ordered


def build(ranks: Mapping[bytes, int], pattern: str, special: Mapping[str, int]) -> Tokenizer:
    """The byte-level BPE of these tokens, in words cut by `pattern`.

    `special` are the texts of special tokens with their ids, which follow the ranks without a gap.

    Raises:
        BrokenCheckpoint: they do not.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    first = len(ranks)
    named = sorted(special, key=special.__getitem__)
    if [special[text] for text in named] != list(range(first, first + len(named))):
        raise BrokenCheckpoint(
            f"The special tokens of this checkpoint do not follow its {first} tokens: download the model again."
        )
    letters = _byte_letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocabulary = {written[token]: rank for token, rank in ranks.items()}
    # tiktoken takes a word that is a token as a whole before it looks at pairs: so does `ignore_merges`.
    model = models.BPE(vocab=vocabulary, merges=_merges(ranks, written), ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in named])
    return tokenizer


def _merges(ranks: Mapping[bytes, int], written: Mapping[bytes, str]) -> list[tuple[str, str]]:
    """Every pair of tokens that is a token together, in the order in which tiktoken would merge them.

    One pair a token is not enough: the vocabularies hold tokens that no single sequence of merges makes.
    """
    merges: list[tuple[str, str]] = []
    for token in ranks:
        pairs = [
            (ranks[left], ranks[right], left, right)
            for at in range(1, len(token))
            if (left := token[:at]) in ranks and (right := token[at:]) in ranks
        ]
        merges += [(written[left], written[right]) for *_, left, right in sorted(pairs)]
    return merges


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte, as byte-level tokenizers write their tokens: its own where it prints."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in prints]
    return [chr(byte) if byte in prints else chr(0x100 + others.index(byte)) for byte in range(0x100)]
