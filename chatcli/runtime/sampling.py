"""From logits to the next token: greedy, or sampled after the usual filters.

The filters run in the order of transformers' `generate` (repetition penalty, temperature, top-k, top-p,
min-p) and give the same logits, which a test proves. It knows one row of logits; no model, no text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from chatcli.errors import EngineError
from chatcli.generation import GenerationSettings


class Sampler:
    """Draws tokens under settings in which nothing is open.

    With a seed the draw repeats exactly on the same device; without one it is different every time.
    """

    def __init__(self, settings: GenerationSettings, device: torch.device) -> None:
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
        logits = penalise_repetition(logits, seen, self._settings.repetition_penalty or 1.0)
        if not self._settings.temperature:
            return int(logits.argmax())
        probabilities = filter_logits(logits, self._settings).softmax(dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


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
