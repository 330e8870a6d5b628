"""SentencePiece tokenizers for `transformers.AutoTokenizer`, under the names that tokenizer_config.json says.

What text becomes which ids is told in `chatcli.models.sentencepiece_file`; this class adds what users of transformers
expect, batches and the tokens around a text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chatcli.models.sentencepiece_file import tokenizer
from chatcli.runtime.ports.published_tokenizer import PublishedTokenizer


class PieceTokenizerBase(PublishedTokenizer):
    """`tokenizer.model` and the special tokens that the folder's JSON files declare.

    Unlike inside chatcli, special tokens in a text are recognised, as transformers does with every tokenizer.
    """

    vocab_files_names = {"vocab_file": "tokenizer.model"}  # noqa: RUF012

    def __init__(self, vocab_file: str, add_bos_token: bool = True, add_eos_token: bool = False, **kwargs: Any) -> None:
        pieces: Any = tokenizer(Path(vocab_file).parent)
        self._pieces = pieces
        self.add_bos_token, self.add_eos_token = add_bos_token, add_eos_token
        defaults = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        for key, text in defaults.items():
            kwargs.setdefault(key, text if self._pieces.token_to_id(text) is not None else None)
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False, **_: Any) -> list[str]:
        """The text's tokens, without those around it."""
        return list(self._pieces.encode(text).tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The beginning and end tokens around each text, as tokenizer_config.json asks for them."""
        bos = [self.bos_token_id] if self.add_bos_token and self.bos_token_id is not None else []
        eos = [self.eos_token_id] if self.add_eos_token and self.eos_token_id is not None else []
        return [part for ids in (token_ids_0, token_ids_1) if ids is not None for part in (*bos, *ids, *eos)]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens stand around a text, or around two."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))


PIECE_TOKENIZERS: list[type] = [
    type(f"{name}Tokenizer", (PieceTokenizerBase,), {})
    for name in ("BaiChuan", "Baichuan", "InternLM", "InternLM2", "Yi", "Orion", "Skywork", "Telechat", "TeleChat")
]
"""One class, by every name that the families give theirs."""
