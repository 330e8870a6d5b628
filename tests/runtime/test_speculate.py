"""Guesses change how long tokens take, and never which they are: whoever guesses, right or wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.decode import decode, feed
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.sampling import Sampler
from chatcli.runtime.speculate import LONGEST, Payoff, PromptLookup

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen3": {"head_dim": 8}, "gpt_neox": {"num_key_value_heads": None}}


class Counting(PrefixCache):
    """A cache that counts the forward passes."""

    passes = 0

    def feeding(self, ids: Sequence[int]) -> Any:
        self.passes += 1
        return super().feeding(ids)


class Oracle:
    """Guesses what it was told will come, with mistakes at some places."""

    def __init__(self, text: Sequence[int], wrong: Sequence[int] = ()) -> None:
        self._text = [(each + 1) % 300 if place in wrong else each for place, each in enumerate(text)]

    def guess(self, seen: Sequence[int], most: int) -> list[int]:
        return self._text[len(seen) : len(seen) + most]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    folder = make_checkpoint(request.param, seed=8, **FAMILIES[request.param])
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


def said(
    model: Any,
    prompt: list[int],
    guesser: Any,
    how: GenerationSettings = GREEDY,
    limit: int = 40,
    end: Sequence[int] = (),
) -> tuple[list[int], int, bool]:
    """The tokens, the passes that they took, whether the reply ended by itself."""
    cache = Counting(model.config)
    logits = feed(model, cache, prompt)[0]
    steps = decode(model, cache, prompt, logits, Sampler(how, logits.device), end=end, limit=limit, guesser=guesser)
    made = []
    while True:
        try:
            made.append(next(steps))
        except StopIteration as stopped:
            return made, cache.passes - 1, bool(stopped.value)


@pytest.fixture(autouse=True)
def guessing_always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of models of two layers say nothing; whether it pays is tested apart."""
    monkeypatch.setattr(Payoff, "pays", property(lambda self: True))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_tokens_are_the_same_whatever_is_guessed(model: Any, data: st.DataObject) -> None:
    prompt = data.draw(st.lists(st.integers(3, 300), min_size=1, max_size=20))
    temperature, penalty = data.draw(st.sampled_from([(0.0, 1.0), (0.0, 1.3), (0.8, 1.0), (0.8, 1.3)]))
    how = GenerationSettings(temperature=temperature, seed=7, repetition_penalty=penalty).over(DEFAULTS)
    limit = data.draw(st.integers(1, 30))
    plain, _, _ = said(model, prompt, None, how, limit)
    wrong = data.draw(st.sets(st.integers(0, 60)))
    right = Oracle([*prompt, *plain], wrong)
    for guesser in (right, Oracle([5] * 100), PromptLookup()):
        assert said(model, prompt, guesser, how, limit)[0] == plain
    end = plain[data.draw(st.integers(0, len(plain) - 1))]
    assert said(model, prompt, right, how, limit, [end])[0] == plain[: plain.index(end)]
    assert said(model, prompt, right, how, limit, [end])[2]


def test_right_guesses_save_passes(model: Any) -> None:
    prompt = list(range(5, 25))
    plain, passes, _ = said(model, prompt, None)
    assert passes == 39
    made, passes, _ = said(model, prompt, Oracle([*prompt, *plain]))
    assert made == plain
    assert passes <= 2 + 40 // LONGEST + 2


def test_the_distribution_is_the_models_own(llama: Any) -> None:
    """The second token of 500 replies, its guess right as often as chance has it (chi-squared, p > 0.001)."""
    prompt, sharp = list(range(5, 25)), GenerationSettings(temperature=1.0, top_k=4).over(DEFAULTS)
    first = said(llama, prompt, None)[0][0]
    cache = PrefixCache(llama.config)
    likely = feed(llama, cache, [*prompt, first])[0].topk(4)
    chances = dict(zip(likely.indices.tolist(), likely.values.softmax(-1).tolist(), strict=True))
    counts: Counter[int] = Counter()
    guesser = Oracle([*prompt, first, *[int(likely.indices[1])] * 4])
    for seed in range(500):
        cache.cut(len(prompt))
        logits = torch.full((llama.config.vocab_size,), -torch.inf)
        logits[first] = 0.0  # the first token is given, the second is what was guessed or not
        how = GenerationSettings(seed=seed).over(sharp)
        made = list(decode(llama, cache, prompt, logits, Sampler(how, logits.device), end=(), limit=2, guesser=guesser))
        counts[made[1]] += 1
    assert counts.keys() <= chances.keys()
    chi = sum((counts[token] - 500 * chance) ** 2 / (500 * chance) for token, chance in chances.items())
    assert chi < 16.27  # 3 degrees of freedom


def test_a_reply_left_in_the_middle_of_guesses_leaves_a_true_cache(llama: Any) -> None:
    talking = CausalModel(llama)
    prompt = [7, 8, 9, 10] * 8
    steps = talking.generate(prompt, GREEDY, end=(), limit=60)
    made = [item for item in (next(steps) for _ in range(30)) if isinstance(item, int)]
    steps.close()
    question = [*prompt, *made, 11, 12]
    again = [item for item in talking.generate(question, GREEDY, end=(), limit=8) if isinstance(item, int)]
    assert again == said(llama, question, None, limit=8)[0]


def test_a_draft_model_changes_nothing_and_a_good_one_saves_passes(llama: Any, make_checkpoint: Any) -> None:
    other = AutoModelForCausalLM.from_pretrained(make_checkpoint(seed=9), dtype=torch.float32).eval()
    prompt = list(range(5, 45))
    plain, _, _ = said(llama, prompt, None)
    for draft in (llama, other):
        talking = CausalModel(llama)
        talking.draft = CausalModel(draft)
        assert [item for item in talking.generate(prompt, GREEDY, end=(), limit=40) if isinstance(item, int)] == plain


def test_a_cache_that_cannot_be_cut_is_not_guessed_for(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("mistral", seed=8, sliding_window=16)
    sliding = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = list(range(5, 45))
    plain, passes, _ = said(sliding, prompt, None)
    assert said(sliding, prompt, Oracle([*prompt, *plain])) == (plain, passes, False)


def test_lookup_goes_on_as_the_latest_place_did() -> None:
    lookup = PromptLookup()
    text = [1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 1, 2, 3]
    assert lookup.guess(text, 4) == [6, 7, 1, 2]
    assert lookup.guess([*text, 8], 4) == []
    assert lookup.guess([*text, 8, 1, 2, 3], 2) == [8, 1]
    assert PromptLookup().guess([1, 2], 4) == []
    assert PromptLookup().guess([1, 1, 1, 1], 4) == [1]


def test_guessing_stops_where_it_does_not_pay_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    payoff = Payoff()
    assert not payoff.pays  # nothing is known yet
    payoff.took(0, 0, 0.010)
    assert payoff.pays
    payoff.took(4, 0, 0.024)
    rests = []
    for _ in range(2):
        rests.append(0)
        while not payoff.pays:
            payoff.took(0, 0, 0.010)
            rests[-1] += 1
        payoff.took(2, 0, 0.024)
    assert rests == [16, 32]


def test_guesses_grow_while_they_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    payoff = Payoff()
    payoff.took(0, 0, 0.010)
    for _ in range(3):
        payoff.took(payoff.length, payoff.length, 0.024)
    assert (payoff.length, payoff.pays) == (LONGEST, True)
    payoff.took(LONGEST, 3, 0.024)
    assert payoff.length == 3
