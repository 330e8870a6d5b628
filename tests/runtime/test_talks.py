"""Several talks over one model: each finds what it has read, whatever the others did, and gives the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime.decode import CHUNK_SECONDS, FEWEST, LEAST_CHUNK, MOST_CHUNK, Pace
from chatcli.runtime.model import CausalModel
from chatcli.runtime.talks import WORTH_KEEPING, Talks

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"sliding_window": 16, "head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    folder = make_checkpoint(request.param, seed=6, **FAMILIES[request.param])
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


def answer(model: CausalModel, prompt: list[int], length: int = 8) -> tuple[list[int], int]:
    """New ids, and how many of the prompt's were cached."""
    cached, made = -1, []
    for item in model.generate(prompt, GREEDY, end=(), limit=length):
        if isinstance(item, Progress):
            cached = item.done if cached < 0 else cached
        else:
            made.append(item)
    return made, cached


def text(seed: int, length: int) -> list[int]:
    return [3 + (seed * 7919 + i * 31) % 300 for i in range(length)]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_talks_in_any_order_give_what_each_gives_alone(model: Any, data: st.DataObject) -> None:
    """Turns, retries, undone turns and drafts of three talks that begin alike, in a memory for about two of them."""
    shared = CausalModel(model)
    shared._talks._budget = data.draw(st.sampled_from([0, 200_000, 10**9]))
    said = {name: text(0, 40) + text(name, 10) for name in (1, 2, 3)}
    for _ in range(6):
        name = data.draw(st.sampled_from([1, 2, 3]))
        kept = said[name][: data.draw(st.integers(10, len(said[name])))]
        if data.draw(st.booleans()):
            draft = shared.prepare(kept + text(9, 40))
            for _ in range(data.draw(st.integers(0, 3))):
                next(draft, None)
            draft.close()
        prompt = kept + text(data.draw(st.integers(4, 9)), data.draw(st.integers(1, 40)))
        made, _ = answer(shared, prompt)
        assert made == answer(CausalModel(model), prompt)[0]
        said[name] = prompt + made


def test_a_talk_that_another_came_between_is_not_read_again(llama: Any) -> None:
    shared = CausalModel(llama)
    first, second = text(0, 50) + text(1, 50), text(0, 50) + text(2, 50)
    made, _ = answer(shared, first)
    _, cached = answer(shared, second)
    assert cached == 50  # what they have in common is copied
    _, cached = answer(shared, [*first, *made, 7, 8])
    assert cached == len(first) + len(made) - 1


def test_both_answers_of_a_retry_stay_read(llama: Any) -> None:
    shared = CausalModel(llama)
    prompt = text(1, 60)
    made, _ = answer(shared, prompt, 40)
    _, cached = answer(shared, prompt, 40)
    assert cached == len(prompt) - 1
    _, cached = answer(shared, [*prompt, *made, 7])
    assert cached == len(prompt) + len(made) - 1


def test_a_turn_after_left_out_reasoning_copies_nothing(llama: Any) -> None:
    """Templates leave out what a model thought; the cache is cut, for nobody comes back to that."""
    shared = CausalModel(llama)
    prompt = text(1, 60)
    made, _ = answer(shared, prompt, 40)
    answer(shared, [*prompt, *made[-3:], *text(5, 20)])
    assert len(shared._talks._caches) == 1


def test_the_talk_used_longest_ago_goes_first(llama: Any) -> None:
    shared = CausalModel(llama)
    talks = [text(name, 80) for name in (1, 2, 3)]
    answer(shared, talks[0], 1)
    shared._talks._budget = shared._talks.latest.bytes * 3 // 2  # room for one beside the one in use
    answer(shared, talks[1], 1)
    answer(shared, talks[2], 1)
    held = [cache.ids[:80] for cache in shared._talks._caches]
    assert held == [talks[1], talks[2]]


def test_a_talk_too_large_for_two_sends_no_other_away(llama: Any) -> None:
    """The others were dropped for a copy that then had no room all the same."""
    shared = CausalModel(llama)
    small, large = text(1, 80), text(2, 2000)
    answer(shared, small, 1)
    answer(shared, large, 1)
    shared._talks._budget = shared._talks._caches[0].bytes
    answer(shared, large[:1000] + text(3, 40), 1)
    assert [cache.ids[:80] for cache in shared._talks._caches] == [small, large[:80]]


def test_what_was_cut_away_counts_as_long_as_its_memory_is_held(llama: Any) -> None:
    shared = CausalModel(llama)
    shared._talks._budget = 0
    answer(shared, text(1, 2000), 1)
    full = shared._talks.latest.bytes
    answer(shared, text(1, 40) + text(2, 40), 1)
    rooms = {id(layer._room): layer._room for layer in shared._talks.latest.layers.layers}
    assert shared._talks.latest.bytes == full == sum(each.nbytes for room in rooms.values() for each in room)


def test_what_frees_the_cache_frees_the_draft_models_as_well(llama: Any) -> None:
    shared = CausalModel(llama)
    shared.draft = CausalModel(llama)
    shared.draft.likeliest(text(1, 60), 2)
    assert shared.draft._talks.latest.ids
    shared.forget()
    assert not shared.draft._talks.latest.ids


def test_without_room_for_two_the_one_cache_is_cut(llama: Any) -> None:
    shared = CausalModel(llama)
    shared._talks._budget = 0
    answer(shared, text(1, 80), 1)
    _, cached = answer(shared, text(1, 40) + text(2, 40), 1)
    assert cached == 40
    assert len(shared._talks._caches) == 1


def test_a_draft_that_changes_leaves_no_cache_behind(llama: Any) -> None:
    shared = CausalModel(llama)
    begun = text(1, 60)
    made, _ = answer(shared, begun)
    for seed in (4, 5, 6):
        list(shared.prepare([*begun, *made, *text(seed, 100)]))
    assert len(shared._talks._caches) == 1
    question = [*begun, *made, *text(6, 100), 9]
    made, cached = answer(shared, question)
    assert cached == len(question) - 1
    assert made == answer(CausalModel(llama), question)[0]


def test_what_a_recurrent_state_has_moved_past_is_not_read_ahead(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("lfm2", seed=6, **FAMILIES["lfm2"])
    shared = CausalModel(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    begun = text(1, 60)
    made, _ = answer(shared, begun)
    assert list(shared.prepare([*begun, *made, *text(4, 100)])) == []
    _, cached = answer(shared, [*begun, *made, 7])
    assert cached == len(begun) + len(made) - 1


def test_the_first_talk_needs_no_room(llama: Any) -> None:
    talks = Talks(llama.config, 0)
    cache = talks.cache_for(text(1, WORTH_KEEPING * 2))
    assert cache is talks.latest
    assert cache.ids == []


@pytest.mark.parametrize(("rate", "chunk"), [(50, LEAST_CHUNK), (3000, int(3000 * CHUNK_SECONDS)), (10**6, MOST_CHUNK)])
def test_chunks_take_as_long_as_a_person_may_wait(rate: float, chunk: int) -> None:
    """At `rate` tokens a second; a chunk below the wanted one, such as the end of a prompt, changes nothing."""
    pace = Pace()
    for _ in range(12):
        pace.took(pace.chunk, pace.chunk / rate)
        pace.took(pace.chunk - 1, 1000.0)
    assert pace.chunk == chunk


@pytest.mark.parametrize(
    ("seconds", "layers", "chunk"), [(3.0, 2, FEWEST), (3.0, 12, 144), (3.0, 32, LEAST_CHUNK), (3.0, 0, LEAST_CHUNK)]
)
def test_a_chunk_is_small_where_a_single_layer_of_it_takes_long(seconds: float, layers: int, chunk: int) -> None:
    """The deeper in a long prompt, the longer a layer takes, and between layers alone it can be given up."""
    pace = Pace()
    for _ in range(8):
        pace.took(pace.chunk, seconds * pace.chunk / LEAST_CHUNK, layers)
    assert pace.chunk == chunk
