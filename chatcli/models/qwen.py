"""The tokenizer of the first Qwen models, which come with a tiktoken file. It knows no weights and no prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chatcli.models.checkpoint import Checkpoint
from chatcli.models.tiktoken import build, read_ranks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "qwen.tiktoken"
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint with `model_type` "qwen"; see `tokenizer`."""
    return tokenizer(checkpoint.folder / FILE)


def tokenizer(path: Path) -> Tokenizer:
    """The ids of `path`'s tokens; special tokens, which the file does not hold, follow them. Text becomes NFC first.

    Raises:
        BrokenCheckpoint: the file is missing or damaged.
    """
    from tokenizers import normalizers

    ranks = read_ranks(path)
    made = build(ranks, _PATTERN, {text: len(ranks) + number for number, text in enumerate(_SPECIAL)})
    made.normalizer = normalizers.NFC()
    return made
