"""What `transformers.AutoTokenizer` expects of a tokenizer whose pieces `chatcli.models` knows.

It knows transformers' protocol: ids, names, decoding. Which tokens stand around a text is each family's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizer


class PublishedTokenizer(PreTrainedTokenizer):
    """A tokenizer over `_pieces`, which is set before `__init__` and is made of the published files."""

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    _pieces: Any

    @property
    def vocab_size(self) -> int:
        """Pieces and special tokens."""
        return len(self._pieces)

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        return {token: n for n in range(len(self._pieces)) if (token := self._pieces.id_to_token(n)) is not None}

    def _convert_token_to_id(self, token: str) -> int:
        return int(self._pieces.token_to_id(token) or 0)

    def _convert_id_to_token(self, index: int) -> str:
        return self._pieces.id_to_token(index) or ""

    def _decode(
        self,
        token_ids: int | Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **_: Any,
    ) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        if skip_special_tokens:
            ids = [number for number in ids if number not in self.all_special_ids]
        text = str(self._pieces.decode(ids, skip_special_tokens=skip_special_tokens))
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        return str(self.clean_up_tokenization(text)) if clean else text

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Nothing: the files are the published ones."""
        return ()
