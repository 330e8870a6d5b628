"""Token ids to text, one by one: never half a character.

Decodes a window of the latest tokens and gives out what the newest one added. It is not built on
`tokenizers.decoders.DecodeStream`, which raises "Invalid prefix" when a byte-fallback tokenizer meets
bytes that are no UTF-8, and holds everything back for as long as such bytes come. Knows no model, no
prompt, no stop string; the text may hold control codes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
MAX_PENDING = 32
"""Tokens that may wait for the rest of a character; more of them are no text and are let go."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """As SentencePiece and tokenizers do; Python's own handler makes one U+FFFD of a cut-off character."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return REPLACEMENT * (error.end - error.start), error.end


_EACH_BYTE = "chatcli.replace-each-byte"
codecs.register_error(_EACH_BYTE, _replace_each_byte)


class AddedToken(Protocol):
    """What `tokenizers.AddedToken` tells of a token."""

    @property
    def special(self) -> bool:
        """Whether the token is no text, such as `</s>`."""
        ...


class Decodes(Protocol):
    """The three methods of `tokenizers.Tokenizer` that make text of ids."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`."""
        ...

    def id_to_token(self, id: int) -> str | None:  # noqa: A002 -- tokenizers names it so
        """The vocabulary's entry for an id."""
        ...

    def get_added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """The added tokens by id, special ones among them."""
        ...


class Detokenizer:
    """Turns a reply's ids into text; all pieces together are `tokenizer.decode(ids)`.

    Like `decode`, it drops the leading space that Metaspace tokenizers put before a first word, which is
    right for a reply (`DecodeStream` does the same). The one difference: where byte-fallback tokens are no
    UTF-8, `decode` spoils the valid characters next to them, and the pieces do not.

    Special tokens are skipped unless `skip_special_tokens` is off or their ids are in `keep`, for tags such
    as `<think>` that some tokenizers declare special.
    """

    def __init__(
        self, tokenizer: Decodes, *, skip_special_tokens: bool = True, keep: frozenset[int] = frozenset()
    ) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder() if skip_special_tokens else {}
        self._skipped = frozenset(number for number, token in added.items() if token.special) - keep
        self._context: list[int] = []  # given out already; kept so that the next token is not the first
        self._before = ""  # the text of the context alone
        self._pending: list[int] = []
        self._given = 0  # characters of the pending tokens' text that were given out
        self._utf8 = codecs.getincrementaldecoder("utf-8")(_EACH_BYTE)

    def push(self, token_id: int) -> str:
        """What the token adds to the text; empty where it ends within a character."""
        if token_id in self._skipped:
            return ""
        byte = self._byte(token_id)
        if byte is not None and (byte >= 0x80 or self._context):
            piece = self._take_pending() + self._utf8.decode(bytes([byte]))
            self._settle([token_id])
            return piece
        piece = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._pending.append(token_id)
        return piece + self._push_pending()

    def flush(self) -> str:
        """What was held back; an incomplete character becomes U+FFFD. The next id begins a new text."""
        piece = self._take_pending() + self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._context, self._before = [], ""
        return piece

    def _push_pending(self) -> str:
        text = self._pending_text()
        if not text:
            return ""
        whole = not text.endswith(REPLACEMENT) or len(self._pending) > MAX_PENDING
        piece = text[self._given : None if whole else -1]
        if whole:
            self._settle(self._pending)
        else:
            self._given = max(self._given, len(text) - 1)
        return piece

    def _take_pending(self) -> str:
        piece = self._pending_text()[self._given :]
        if self._pending:
            self._settle(self._pending)
        return piece

    def _pending_text(self) -> str:
        if not self._pending:
            return ""
        text = self._tokenizer.decode([*self._context, *self._pending], skip_special_tokens=False)
        if text.startswith(self._before):
            return text[len(self._before) :]
        return self._tokenizer.decode(self._pending, skip_special_tokens=False)

    def _settle(self, ids: list[int]) -> None:
        self._context, self._pending, self._given = ids, [], 0
        self._before = self._tokenizer.decode(ids, skip_special_tokens=False)

    def _byte(self, token_id: int) -> int | None:
        """The byte that a byte-fallback token stands for."""
        token = self._tokenizer.id_to_token(token_id)
        match = _BYTE_TOKEN.fullmatch(token) if token else None
        if match and self._tokenizer.decode([token_id], skip_special_tokens=False) != token:
            return int(match[1], 16)
        return None
