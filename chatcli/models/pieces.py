"""Tokenizers over SentencePiece models with special tokens around them, as ChatGLM has them.

Own classes over the `sentencepiece` library, since `tokenizers` does not normalise every text as it does. What a
person types never becomes a special token here, unless the token is one of the `roles` that templates write.
This module knows no prompt and no checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli.errors import BrokenCheckpoint

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor


@dataclass(frozen=True, slots=True)
class Special:
    """A token that is no text."""

    content: str
    special: bool = True


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text's tokens. SentencePiece's offsets count bytes of changed text, so none are given."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a text is written before SentencePiece sees it, and read after it."""

    write: Callable[[str], str] = str
    read: Callable[[str], str] = str


class PieceTokenizer:
    """The pieces of one model and `special` tokens with their ids, some of which may be pieces themselves.

    `roles` are special tokens that are recognised in a text. With `headers`, the line behind a role is encoded apart
    from what follows it, as ChatGLM3's own code does. `spoken` are special tokens that decode
    to their text; the others to nothing.
    """

    def __init__(
        self,
        model: SentencePieceProcessor,
        special: Mapping[str, int],
        *,
        roles: Sequence[str] = (),
        headers: bool = True,
        spoken: Collection[str] = (),
        guarded: Collection[str] = (),
        spelling: Spelling | None = None,
    ) -> None:
        self._model = model
        self._special = dict(special)
        self._texts = {number: text for text, number in special.items()}
        self._spoken = frozenset(spoken)
        self._spelling = spelling or Spelling()
        self.roles = frozenset(roles)
        self.control = self.roles | frozenset(guarded)
        self._adds_space = model.encode("x", out_type=str)[0].startswith("▁")
        self._roles = re.compile(f"({'|'.join(map(re.escape, roles))})") if roles else None
        self._headers = headers

    def __len__(self) -> int:
        return max(self._model.get_piece_size(), *(number + 1 for number in self._special.values()))

    def encode(
        self, sequence: str, pair: str | None = None, is_pretokenized: bool = False, add_special_tokens: bool = False
    ) -> Pieces:
        """The tokens of one text, with the roles in it and nothing around it."""
        ids: list[int] = []
        for part in self._parts(sequence):
            ids += [self._special[part]] if part in self.roles else self.encode_text(part).ids
        return self._pieces(ids)

    def encode_text(self, text: str) -> Pieces:
        """The tokens of a text in which nothing is special."""
        return self._pieces(self._model.encode(self._spelling.write(text)) if text else [])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; those that nothing is known of are left out."""
        text = ""
        for special, group in groupby(ids, key=self._texts.__contains__):
            if not special:
                known = [n for n in group if 0 <= n < self._model.get_piece_size() and self._is_text(n)]
                # SentencePiece drops the space before a text's first word, not before those behind a role.
                spaced = self._adds_space and bool(text) and bool(known)
                spaced = spaced and self._model.id_to_piece(known[0]).startswith("▁")
                text += " " * spaced + self._model.decode(known)
            elif not skip_special_tokens:
                text += "".join(self._texts[number] for number in group if self._texts[number] in self._spoken)
        return self._spelling.read(text)

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece or a special token."""
        if token in self._special:
            return self._special[token]
        number = int(self._model.piece_to_id(token))
        return number if self._model.id_to_piece(number) == token else None

    def id_to_token(self, id: int) -> str | None:  # noqa: A002 -- tokenizers names it so
        """The piece or special token with an id."""
        if id in self._texts:
            return self._texts[id]
        return str(self._model.id_to_piece(id)) if 0 <= id < self._model.get_piece_size() else None

    def get_added_tokens_decoder(self) -> Mapping[int, Special]:
        """The special tokens by id."""
        return {number: Special(text) for text, number in self._special.items()}

    def _pieces(self, ids: list[int]) -> Pieces:
        return Pieces(ids, [self.id_to_token(number) or "" for number in ids], [(0, 0)] * len(ids))

    def _is_text(self, number: int) -> bool:
        return not self._model.is_control(number)

    def _parts(self, text: str) -> Iterator[str]:
        if self._roles is None:
            yield text
            return
        before = ""
        for part in self._roles.split(text):
            if self._headers and before in self.roles and part not in self.roles:
                header, newline, content = part.partition("\n")
                yield from (header + newline, content)
            else:
                yield part
            before = part


def read_pieces(path: Path) -> SentencePieceProcessor:
    """The SentencePiece model in a file.

    Raises:
        BrokenCheckpoint: it is missing or damaged.
    """
    from sentencepiece import SentencePieceProcessor

    if not path.is_file():
        raise BrokenCheckpoint(f"{path} is missing, and the model has no other tokenizer: download the model again.")
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise BrokenCheckpoint(f"{path} cannot be read as a SentencePiece model: download the model again.") from error
    return model
