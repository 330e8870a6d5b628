"""From logits to the next token: greedy, or sampled after the usual filters.

The filters run in the order of transformers' `generate` (repetition penalty, temperature, top-k, top-p,
min-p) and give the same logits, which a test proves. It knows one row of logits; no model, no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from chatcli.errors import ChatcliError, EngineError
from chatcli.generation import GenerationSettings

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint

Drawn = tuple[int, float, tuple[tuple[int, float], ...]]
"""A token's id and log probability, and the same of the likeliest tokens in its place."""

COLDEST = 1e-6
"""Temperatures below it leave nothing but the likeliest token, or no number at all."""

NOT_NUMBERS = (
    "The model computed no usable numbers (NaN or infinity) for the next token: its weights are "
    "damaged or do not bear this precision; check the files or use another checkpoint."
)


class Sampler:
    """Draws tokens under settings in which nothing is open.

    With a seed the draw repeats exactly on the same device; without one it is different every time. Under a
    `constraint` only what it allows is drawn. `logprobs` tells of every token drawn where they are asked for.
    """

    def __init__(
        self, settings: GenerationSettings, device: torch.device, constraint: TokenConstraint | None = None
    ) -> None:
        self.logprobs: list[Drawn] = []
        # What float32 cannot divide by is as cold as 0.
        cold = (settings.temperature or 0.0) < COLDEST
        self.settings = replace(settings, seed=None, temperature=0.0 if cold else settings.temperature)
        self._constraint = constraint
        self._generator = torch.Generator(device=device)
        if settings.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(settings.seed)

    @property
    def plain(self) -> bool:
        """Whether a draw depends on the logits and the settings alone."""
        settings = self.settings
        return not self._constraint and settings.repetition_penalty == 1.0 and settings.top_logprobs is None

    def draw(self, logits: torch.Tensor, seen: Sequence[int]) -> int:
        """The next token's id from `logits` (vocabulary,), given all ids so far, prompt included.

        Raises:
            EngineError: the logits are not numbers, as happens with broken weights or float16 overflow.
            UsageError: the constraint cannot be followed.
        """
        logits = logits.float()
        if not torch.isfinite(logits.max()):
            raise EngineError(NOT_NUMBERS)
        allowed = self._constraint.allow(logits) if self._constraint else logits
        token = self._choose(penalise_repetition(allowed, seen, self.settings.repetition_penalty or 1.0))
        if self._constraint:
            self._constraint.take(token)
        if self.settings.top_logprobs is not None:
            self.logprobs.append(_drawn(logits, token, self.settings.top_logprobs))
        return token

    def uniform(self) -> torch.Tensor:
        """The next random number, (1,) in [0, 1): one a token, so that a batch draws what each alone would."""
        return torch.rand(1, generator=self._generator, device=self._generator.device)

    def _choose(self, logits: torch.Tensor) -> int:
        if not self.settings.temperature:
            return int(logits.argmax())
        if self.settings.top_k:
            return self._choose_among_likeliest(logits)
        return int(draw_at(filter_logits(logits, self.settings), self.uniform()))

    def _choose_among_likeliest(self, logits: torch.Tensor) -> int:
        """What `_choose` would, with all later steps on the few tokens that top-k leaves, in the order of their ids.

        Sorting a vocabulary of 150,000 takes a CPU as long as a small model's layers.
        """
        logits = logits / (self.settings.temperature or 1.0)
        smallest = logits.topk(min(self.settings.top_k or 0, len(logits))).values[-1]
        ids = (logits >= smallest).nonzero().squeeze(-1)
        rest = replace(self.settings, temperature=1.0, top_k=0)
        return int(ids[draw_at(filter_logits(logits[ids], rest), self.uniform())])


def draw_at(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The ids where the cumulative probabilities of `logits` (..., vocabulary) pass `uniform` (...,)."""
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    cumulative = logits.softmax(dim=-1, dtype=exact).cumsum(dim=-1)
    # Scaled by the last sum, for rounding must not leave a gap at the end where no token is.
    wanted = uniform.unsqueeze(-1).to(exact) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)


def draw_rows(
    logits: torch.Tensor, samplers: Sequence[Sampler], seen: Sequence[Sequence[int]]
) -> list[int | ChatcliError]:
    """The next token of every row of `logits` (rows, vocabulary), each as its own sampler would draw it.

    A row that cannot have one, for its logits are no numbers or its constraint cannot be followed, has an error
    instead; the others do not suffer.
    """
    drawn: list[int | ChatcliError] = [0] * len(samplers)
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, sampler in enumerate(samplers):
        alike.setdefault(_kind(sampler, place, logits.device), []).append(place)
    for places in alike.values():
        first = places[0]
        if len(places) == 1:
            found = [_drawn_or_error(samplers[first], logits[first], seen[first])]
        else:
            found = _draw_alike(logits[places].float(), [samplers[place] for place in places])
        for place, each in zip(places, found, strict=True):
            drawn[place] = each
    return drawn


def _kind(sampler: Sampler, place: int, device: torch.device) -> tuple[object, ...]:
    """The same for rows that are drawn in one go; a sampler that minds more than its logits is of its own kind.

    A CPU finds the likeliest of one row without sorting it, so that one after the other they are drawn sooner.
    """
    settings = sampler.settings
    sorts = bool(settings.temperature) and (settings.top_k or (settings.top_p or 1.0) < 1.0)
    if not sampler.plain or (sorts and device.type == "cpu"):
        return (place,)
    return settings.temperature, settings.top_k, settings.top_p, settings.min_p


def _draw_alike(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int | ChatcliError]:
    settings = samplers[0].settings
    if not settings.temperature:
        tokens = logits.argmax(dim=-1)
    else:
        tokens = draw_at(filter_logits(logits, settings), torch.cat([sampler.uniform() for sampler in samplers]))
    usable = torch.isfinite(logits.amax(dim=-1)).tolist()
    return [
        token if number else EngineError(NOT_NUMBERS) for token, number in zip(tokens.tolist(), usable, strict=True)
    ]


def _drawn_or_error(sampler: Sampler, logits: torch.Tensor, seen: Sequence[int]) -> int | ChatcliError:
    try:
        return sampler.draw(logits, seen)
    except ChatcliError as error:
        return error


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

    `logits` is (..., vocabulary). At least one token of each row always remains.
    """
    logits = logits / (settings.temperature or 1.0)
    if settings.top_k:
        smallest = logits.topk(min(settings.top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if settings.top_p is not None and settings.top_p < 1.0:
        logits = logits.masked_fill(_outside_nucleus(logits, settings.top_p), -torch.inf)
    if settings.min_p:
        probabilities = logits.softmax(dim=-1)
        logits = logits.masked_fill(
            probabilities < settings.min_p * probabilities.amax(dim=-1, keepdim=True), -torch.inf
        )
    return logits


NUCLEUS = 1024
"""The likeliest tokens that are sorted to find a nucleus; it seldom is larger."""


def _outside_nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which tokens top-p excludes (Holtzman et al., arXiv 1904.09751, 3.1): those above them have the mass already.

    Of equals at the edge the later ids stay, however it is computed.
    """
    if logits.device.type == "cpu" and logits.ndim == 1 and len(logits) > 4 * NUCLEUS:
        likeliest, order = logits.topk(NUCLEUS)
        mass = logits.softmax(dim=-1)[order].double()
        size = max(int((mass.cumsum(dim=-1) - mass < top_p).sum()), 1)  # a mass of 0 is the likeliest token's
        if size < NUCLEUS:
            edge = likeliest[size - 1]
            outside = logits < edge
            equal = (logits == edge).nonzero().squeeze(-1)
            outside[equal[: len(logits) - int(outside.sum()) - size]] = True
            return outside
    ascending, order = logits.sort(stable=True)
    excluded = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    excluded[..., -1] = False
    return excluded.scatter(-1, order, excluded)
