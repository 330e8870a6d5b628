"""An answer held to a grammar: at every step only the tokens that it allows can be drawn.

The grammar is followed by llguidance, token by token, over the model's own vocabulary. It knows ids and
logits; what a schema is, `chatcli.constraints` knows.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer

from chatcli.errors import EngineError

_CLOSING = ("}", "]", '"', ",")
"""What brings JSON to an end soonest, in this order, where it is allowed and no text is open."""


class Vocabulary:
    """A model's tokens as a grammar needs them; made once a model, since it takes up to a second."""

    def __init__(self, tokenizer: Tokenizer, end: Collection[int], size: int) -> None:
        """The tokens of `tokenizer` for a model of `size` rows, whose answers end with one of `end`."""
        self.end = sorted(end)
        self.known = LLTokenizer(tokenizer.to_str(), n_vocab=size, eos_token=self.end)
        ids = {text: tokenizer.token_to_id(text) for text in _CLOSING}
        self.closing = {text: each for text, each in ids.items() if each is not None}


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
            EngineError: the model's tokens cannot spell what the grammar asks for.
        """
        if self._begin is not None:
            return logits
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        mask = torch.zeros(logits.shape[-1], dtype=torch.bool)
        mask[: len(allowed)] = allowed[: len(mask)]
        if self._matcher.is_error() or not bool(mask.any()):
            reason = self._matcher.get_error().partition("\n")[0] or "none of its tokens fits"
            raise EngineError(f"The model cannot follow the constraint: {reason}.")
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
