"""Tiny SentencePiece models, trained on the spot; the same ones in every run."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import sentencepiece

TEXT = [
    "Hello there, how are you today? I am fine, thank you.",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "你好，请介绍一下北京。谢谢！再讲一个笑话吧。",
    "def f(x):\n    return x + 1",
    "user assistant system Human Assistant",
]


@lru_cache(maxsize=8)
def trained(kind: str = "bpe", *, dummy: bool = True, control: str = "", defined: str = "<eoh>,<eoa>") -> bytes:
    """A model file; `control` and `defined` list symbols of that sort, with commas between."""
    made = io.BytesIO()
    options: dict[str, Any] = {
        "vocab_size": 420,
        "hard_vocab_limit": False,
        "model_type": kind,
        "byte_fallback": True,
        "add_dummy_prefix": dummy,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "character_coverage": 1.0,
        "control_symbols": control.split(",") if control else [],
        "user_defined_symbols": defined.split(",") if defined else [],
        "pad_id": -1,
        "num_threads": 1,
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT * 20), model_writer=made, **options)
    return made.getvalue()
