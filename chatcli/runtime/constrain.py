"""An answer held to a grammar: at every step only the tokens that it allows can be drawn.

The grammar is followed by llguidance, token by token, over the model's own vocabulary. It knows ids and
logits; what a schema is, `chatcli.constraints` knows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import tokenizers
import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from chatcli.errors import UsageError
from chatcli.models.tokenizer import Tokenizer

_CLOSING = ("}", "]", '"', ",")
"""What brings JSON to an end soonest, in this order, where it is allowed and no text is open."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """A model's tokens as a grammar needs them; made once a model, since it takes up to some seconds."""

    def __init__(self, tokenizer: Tokenizer, end: Collection[int], size: int) -> None:
        """The tokens of `tokenizer` for a model of `size` rows, whose answers end with one of `end`."""
        self.end = sorted(end)
        read = (
            tokenizer.to_str()
            if isinstance(tokenizer, tokenizers.Tokenizer)
            else TokenizerWrapper(_Spelled(tokenizer, self.end, size))
        )
        self.known = LLTokenizer(read, n_vocab=size, eos_token=self.end)
        names = {text: (text, f"<0x{ord(text):02X}>") for text in _CLOSING}
        ids = {text: [n for name in names[text] if (n := tokenizer.token_to_id(name)) is not None] for text in names}
        self.closing = {text: each[0] for text, each in ids.items() if each}


class _Spelled:
    """Every token as the bytes that it adds to a text, under the names that llguidance reads."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, end: list[int], size: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = end[0]
        # Behind another token, since SentencePiece drops the space before the first one.
        self._before = tokenizer.encode("x").ids
        self.tokens = list(self._spelled(size))
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        self._longest = max(map(len, self.tokens))
        self.special_token_ids = [number for number, token in enumerate(self.tokens) if not token]

    def __call__(self, text: bytes) -> list[int]:
        """Tokens that spell `text`, each the longest that fits: the tokenizer itself would begin with a space."""
        ids: list[int] = []
        while text:
            length = next((n for n in range(min(len(text), self._longest), 0, -1) if text[:n] in self._ids), 0)
            ids += [self._ids[text[:length]]] if length else []
            text = text[length or 1 :]
        return ids

    def _spelled(self, size: int) -> Iterator[bytes]:
        start = len(self._tokenizer.decode(self._before))
        for number in range(size):
            name = self._tokenizer.id_to_token(number) or ""
            if byte := _BYTE.fullmatch(name):
                yield bytes([int(byte[1], 16)])
            elif name == "<unk>":  # which reads as two question marks
                yield b""
            else:
                yield self._tokenizer.decode([*self._before, number])[start:].encode()


class TokenConstraint:
    """One answer of at most `limit` tokens that conforms to `grammar`.

    While less than a reserve of the limit is left, what closes an open text, list or object is drawn wherever
    it is allowed, so that a long answer conforms in time. With `begin`, the id that ends a reasoning part, the
    grammar holds from behind that token on.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: str, limit: int, begin: int | None = None) -> None:
        self._vocabulary = vocabulary
        self._matcher = LLMatcher(vocabulary.known, grammar, log_level=0)
        self._left = limit
        self._reserve = min(limit * 3 // 4, 64 + len(grammar))
        self._begin = begin

    def allow(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` (vocabulary,) with minus infinity for every token that may not come next.

        Raises:
            UsageError: the model's tokens cannot spell what the grammar asks for, or it is too large to be followed.
        """
        if self._begin is not None:
            return logits
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        mask = torch.zeros(logits.shape[-1], dtype=torch.bool)
        mask[: len(allowed)] = allowed[: len(mask)]
        if self._matcher.is_error() or not bool(mask.any()):
            reason = self._matcher.get_error().partition("\n")[0] or "none of its tokens fits"
            raise UsageError(f"The model cannot follow the constraint: {reason}.")
        if self._left <= self._reserve:
            mask = self._soonest(mask)
        return logits.masked_fill(~mask.to(logits.device), -torch.inf)

    def take(self, token: int) -> None:
        """Go on behind `token`, which was drawn."""
        self._left -= 1
        if self._begin is None:
            self._matcher.consume_token(token)
        elif token == self._begin:
            self._begin = None

    def _soonest(self, mask: torch.Tensor) -> torch.Tensor:
        """Of the allowed tokens those that end the answer soonest."""
        ends = [each for each in self._vocabulary.end if each < len(mask) and mask[each]]
        closing = [text for text, each in self._vocabulary.closing.items() if mask[each]]
        if "}" in closing and "]" in closing:  # both are only allowed within a text
            closing = [text for text in closing if text == '"']
        wanted = ends or [self._vocabulary.closing[text] for text in closing[:1]]
        return torch.zeros_like(mask).index_fill(0, torch.tensor(wanted), True) if wanted else mask
