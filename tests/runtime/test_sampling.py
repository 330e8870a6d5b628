"""Sampling against transformers' own processors, and against its own promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as reference

from chatcli.errors import EngineError
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.sampling import Sampler, draw_at, draw_rows, filter_logits, penalise_repetition

CPU = torch.device("cpu")


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.05, 3),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 0.9),
    penalty=st.floats(0.5, 2),
)
def test_the_filters_give_the_logits_of_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, generator=generator) * 4
    seen = torch.randint(50, (12,), generator=generator)
    expected = reference.RepetitionPenaltyLogitsProcessor(penalty)(seen[None], logits[None].clone())
    expected = reference.TemperatureLogitsWarper(temperature)(seen[None], expected)
    if top_k:
        expected = reference.TopKLogitsWarper(top_k)(seen[None], expected)
    if top_p < 1:
        expected = reference.TopPLogitsWarper(top_p)(seen[None], expected)
    if min_p:
        expected = reference.MinPLogitsWarper(min_p)(seen[None], expected)
    ours = penalise_repetition(logits, seen.tolist(), penalty)
    ours = filter_logits(ours, GenerationSettings(temperature, top_p, top_k, min_p))
    torch.testing.assert_close(ours, expected[0], rtol=0, atol=0)


def test_a_seed_repeats_the_draw_and_another_changes_it() -> None:
    logits = torch.zeros(1000)

    def drawn(seed: int) -> list[int]:
        sampler = Sampler(GenerationSettings(temperature=1.0, seed=seed).over(DEFAULTS), CPU)
        return [sampler.draw(logits, []) for _ in range(8)]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-7])
@pytest.mark.parametrize("top_k", [0, 5])
def test_a_temperature_too_small_to_divide_by_is_greedy(temperature: float, top_k: int) -> None:
    sampler = Sampler(GenerationSettings(temperature=temperature, top_k=top_k).over(DEFAULTS), CPU)
    assert sampler.draw(torch.tensor([0.0, 2.0, -300.0, 1.9]), []) == 1


def test_samples_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    sampler = Sampler(GenerationSettings(temperature=1.0, seed=3).over(DEFAULTS), CPU)
    drawn = torch.tensor([sampler.draw(probabilities.log(), []) for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, probabilities, atol=0.03, rtol=0)


def test_temperature_zero_takes_the_likeliest() -> None:
    sampler = Sampler(GenerationSettings(temperature=0.0).over(DEFAULTS), CPU)
    assert sampler.draw(torch.tensor([0.1, 5.0, 0.2]), []) == 1


@pytest.mark.parametrize("said", [GenerationSettings(temperature=1e-40), GenerationSettings(top_p=0.0)])
@pytest.mark.parametrize("top_k", [0, 50])
@pytest.mark.parametrize("size", [50, 50_000])
def test_next_to_no_temperature_and_no_mass_at_all_take_the_likeliest(
    said: GenerationSettings, top_k: int, size: int
) -> None:
    """Servers are sent both: logits that are divided by the one are infinite, and a nucleus of the other was empty."""
    logits = torch.randn(size, generator=torch.Generator().manual_seed(5))
    settings = replace(said, top_k=top_k, seed=1).over(GenerationSettings(temperature=1.0)).over(DEFAULTS)
    rows = [Sampler(settings, CPU) for _ in range(3)]
    assert draw_rows(logits.repeat(3, 1), rows, [[]] * 3) == [int(logits.argmax())] * 3
    assert Sampler(settings, CPU).draw(logits, []) == int(logits.argmax())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_said_and_never_become_token_zero(wrong: float, temperature: float) -> None:
    sampler = Sampler(GenerationSettings(temperature=temperature).over(DEFAULTS), CPU)
    with pytest.raises(EngineError, match="NaN"):
        sampler.draw(torch.full((5,), wrong), [])


@pytest.mark.parametrize(
    "said",
    [
        GenerationSettings(temperature=0.0),
        GenerationSettings(temperature=0.8, top_k=9, top_p=0.8, min_p=0.02),
        GenerationSettings(temperature=1.0, repetition_penalty=1.4),
    ],
)
def test_a_batch_draws_what_each_row_alone_would(said: GenerationSettings) -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * 3
    seen = [[row, row + 1] for row in range(5)]

    def samplers() -> list[Sampler]:
        return [Sampler(replace(said, seed=row).over(DEFAULTS), CPU) for row in range(5)]

    together, apart = samplers(), samplers()
    for _ in range(6):
        alone = [sampler.draw(row, before) for sampler, row, before in zip(apart, logits, seen, strict=True)]
        assert draw_rows(logits, together, seen) == alone
    fresh = samplers()
    expected = [sampler.draw(row, before) for sampler, row, before in zip(fresh, logits, seen, strict=True)]
    broken = logits.index_fill(0, torch.tensor([1, 4]), torch.nan)
    for place, each in enumerate(draw_rows(broken, samplers(), seen)):
        if place in (1, 4):
            assert isinstance(each, EngineError) and "NaN" in str(each)
        else:
            assert each == expected[place]


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    assert [int(draw_at(logits, torch.tensor(u))) for u in (0.0, 0.499, 0.5, 1 - 2**-24)] == [1, 1, 3, 3]


@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_the_same_without_sorting_it_all(spread: float, top_p: float) -> None:
    logits = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) * spread
    ours = filter_logits(logits, GenerationSettings(1.0, top_p))
    expected = reference.TopPLogitsWarper(top_p)(torch.zeros(1, 1), logits[None])[0]
    # Sums of float32 in another order may differ by a token at the very edge.
    assert int((ours.isfinite() != expected.isfinite()).sum()) <= 1


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_one_row_has_the_nucleus_that_it_has_in_a_batch_also_among_equals(top_p: float) -> None:
    """Rows of a batch are sorted wholly; bfloat16 makes many logits equal."""
    logits = (torch.randn(3, 20_000, generator=torch.Generator().manual_seed(2)) * 5).bfloat16().float()
    together = filter_logits(logits, GenerationSettings(1.0, top_p))
    for row, expected in zip(logits, together, strict=True):
        assert torch.equal(filter_logits(row, GenerationSettings(1.0, top_p)), expected)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    top_k=st.integers(1, 60),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.5),
    ties=st.booleans(),
)
def test_drawing_among_the_likeliest_draws_what_the_whole_row_would(
    seed: int, top_k: int, top_p: float, min_p: float, ties: bool
) -> None:
    logits = torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 3
    if ties:
        logits = logits.round()
    chosen = GenerationSettings(0.8, top_p, top_k, min_p, seed=seed).over(DEFAULTS)
    uniform = Sampler(chosen, CPU).uniform()
    expected = int(draw_at(filter_logits(logits, chosen), uniform))
    assert Sampler(chosen, CPU).draw(logits, []) == expected
