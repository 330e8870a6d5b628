"""What chatcli asks of a tokenizer: the methods of `tokenizers.Tokenizer` that it calls.

Vocabularies that `tokenizers` cannot reproduce have classes of ours with the same methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Encoding(Protocol):
    """A text's tokens; `offsets` count the text's characters, and are (0, 0) where nobody knows them."""

    @property
    def ids(self) -> list[int]:
        """The tokens' ids."""
        ...

    @property
    def tokens(self) -> list[str]:
        """The vocabulary's entries."""
        ...

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Where each token begins and ends."""
        ...


class Tokenizer(Protocol):
    """Text to ids and back."""

    def encode(
        self, sequence: str, pair: str | None = None, is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> Encoding:
        """The tokens of `sequence`."""
        ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`."""
        ...

    def token_to_id(self, token: str) -> int | None:
        """The id of a vocabulary's entry."""
        ...

    def id_to_token(self, id: int) -> str | None:  # noqa: A002 -- tokenizers names it so
        """The vocabulary's entry for an id."""
        ...

    def get_added_tokens_decoder(self) -> Mapping[int, Any]:
        """The added tokens by id, special ones among them."""
        ...
