"""From logits to the next token: greedy, or sampled after the usual filters.

The filters run in the order of transformers' `generate` (repetition penalty, temperature, top-k, top-p,
min-p) and give the same logits, which a test proves. It knows one row of logits; no model, no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from chatcli.errors import EngineError
from chatcli.generation import GenerationSettings

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint

Drawn = tuple[int, float, tuple[tuple[int, float], ...]]
"""A token's id and log probability, and the same of the likeliest tokens in its place."""


class Sampler:
    """Draws tokens under settings in which nothing is open.

    With a seed the draw repeats exactly on the same device; without one it is different every time. Under a
    `constraint` only what it allows is drawn. `logprobs` tells of every token drawn where they are asked for.
    """

    def __init__(
        self, settings: GenerationSettings, device: torch.device, constraint: TokenConstraint | None = None
    ) -> None:
        self.logprobs: list[Drawn] = []
        self._constraint = constraint
        self._settings = settings
        self._generator = torch.Generator(device=device)
        if settings.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(settings.seed)

    def draw(self, logits: torch.Tensor, seen: Sequence[int]) -> int:
        """The next token's id from `logits` (vocabulary,), given all ids so far, prompt included.

        Raises:
            EngineError: the logits are not numbers, as happens with broken weights or float16 overflow.
        """
        logits = logits.float()
        if not torch.isfinite(logits.max()):
            raise EngineError(
                "The model computed no usable numbers (NaN or infinity) for the next token: its weights are "
                "damaged or do not bear this precision; check the files or use another checkpoint."
            )
        allowed = self._constraint.allow(logits) if self._constraint else logits
        token = self._choose(penalise_repetition(allowed, seen, self._settings.repetition_penalty or 1.0))
        if self._constraint:
            self._constraint.take(token)
        if self._settings.top_logprobs is not None:
            self.logprobs.append(_drawn(logits, token, self._settings.top_logprobs))
        return token

    def _choose(self, logits: torch.Tensor) -> int:
        if not self._settings.temperature:
            return int(logits.argmax())
        probabilities = filter_logits(logits, self._settings).softmax(dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _drawn(logits: torch.Tensor, token: int, others: int) -> Drawn:
    logprobs = logits.log_softmax(dim=-1)
    best = logprobs.topk(min(others, len(logprobs)))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return token, float(logprobs[token]), top


def penalise_repetition(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative logits of seen ids by `penalty` (CTRL, arXiv 1909.05858, 4.1)."""
    if penalty == 1.0 or not seen:
        return logits
    ids = torch.tensor(sorted(set(seen)), device=logits.device)
    chosen = logits[ids]
    return logits.index_put((ids,), torch.where(chosen < 0, chosen * penalty, chosen / penalty))


def filter_logits(logits: torch.Tensor, settings: GenerationSettings) -> torch.Tensor:
    """Scale by temperature, then push what top-k, top-p and min-p exclude to minus infinity.

    `logits` is (vocabulary,). At least one token always remains.
    """
    logits = logits / (settings.temperature or 1.0)
    if settings.top_k:
        smallest = logits.topk(min(settings.top_k, logits.shape[-1])).values[-1]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if settings.top_p is not None and settings.top_p < 1.0:
        ascending, order = logits.sort()
        excluded = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - settings.top_p
        excluded[-1] = False
        logits = logits.masked_fill(excluded.scatter(0, order, excluded), -torch.inf)
    if settings.min_p:
        probabilities = logits.softmax(dim=-1)
        logits = logits.masked_fill(probabilities < settings.min_p * probabilities.max(), -torch.inf)
    return logits
