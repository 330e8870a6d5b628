"""A step over fixed buffers must give the tokens of the plain decode loop; here unrecorded, on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.errors import EngineError, OutOfMemory
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.decode import decode, prefill
from chatcli.runtime.graphs import Run, StaticSteps, can_be_recorded, is_static
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.sampling import Sampler

CPU = torch.device("cpu")
PROMPT = list(range(5, 30))
GREEDY = GenerationSettings(temperature=0.0)
SETTINGS = {
    "greedy": GREEDY,
    "sampled": GenerationSettings(temperature=1.5, seed=7),
    "filtered": GenerationSettings(temperature=1.2, top_k=50, top_p=0.9, min_p=0.01, seed=3),
}
STATIC: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gpt_neox": {"num_key_value_heads": None},
    "olmo2": {},
}
NOT_STATIC: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 16, "head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


def unrecorded(run: Run) -> Run:
    return run


def load(make_checkpoint: Callable[..., Path], family: str, config: dict[str, Any]) -> Any:
    return AutoModelForCausalLM.from_pretrained(make_checkpoint(family, seed=5, **config), dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=STATIC)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    return load(make_checkpoint, request.param, STATIC[request.param])


@pytest.fixture(scope="module")
def llama(make_checkpoint: Callable[..., Path]) -> Any:
    return load(make_checkpoint, "llama", {})


class Talk:
    """A model with its cache, decoded plainly or by `steps`."""

    def __init__(self, model: Any, steps: StaticSteps | None = None) -> None:
        self.model, self.steps = model, steps
        self.cache = PrefixCache(model.config)

    def tokens(
        self, ids: list[int], settings: GenerationSettings, limit: int, end: tuple[int, ...] = ()
    ) -> Generator[int, None, bool]:
        reading = prefill(self.model, self.cache, ids)
        while True:
            try:
                next(reading)
            except StopIteration as read:
                logits = read.value
                break
        sampler = Sampler(settings.over(DEFAULTS), CPU)
        if self.steps:
            return (yield from self.steps.decode(self.cache, ids, logits, sampler, end=end, limit=limit))
        return (yield from decode(self.model, self.cache, ids, logits, sampler, end=end, limit=limit))

    def answer(self, ids: list[int], settings: GenerationSettings = GREEDY, limit: int = 50) -> list[int]:
        return list(self.tokens(ids, settings, limit))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_its_tokens_are_those_of_the_plain_loop(model: Any, settings: GenerationSettings, limit: int) -> None:
    assert is_static(model)
    made = Talk(model, StaticSteps(model, unrecorded, least=32)).answer(PROMPT, settings, limit)
    assert made == Talk(model).answer(PROMPT, settings, limit)


def test_the_talk_moves_to_a_larger_room_in_mid_reply(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcli.runtime.graphs.AHEAD", 1)
    rooms: list[int] = []

    class Watched(StaticSteps):
        def holding(self, tokens: int, settings: GenerationSettings) -> Any:
            step = super().holding(tokens, settings)
            assert step
            rooms.append(step.room)
            return step

    assert Talk(llama, Watched(llama, unrecorded, least=32)).answer(PROMPT) == Talk(llama).answer(PROMPT)
    assert rooms == [32, 64, 128]


def test_turns_reuse_what_a_step_computed(model: Any) -> None:
    """Also after a reply that was broken off, whose next token was under way, and one that ended by itself."""
    plain, static = Talk(model), Talk(model, StaticSteps(model, unrecorded, least=32))
    first = plain.answer(PROMPT, limit=12)
    broken = static.tokens(PROMPT, GREEDY, 12)
    assert [next(broken) for _ in range(5)] == first[:5]
    broken.close()
    assert static.cache.ids == [*PROMPT, *first[:5]]
    longer = [*PROMPT, *first[:5], 8, 9]
    expected = plain.answer(longer)
    assert static.answer(longer) == expected
    assert static.cache.ids == [*longer, *expected[:-1]]
    ended = list(static.tokens(longer, GREEDY, 50, end=(expected[7],)))
    assert ended == expected[: expected.index(expected[7])]
    assert static.cache.ids[: len(longer) + len(ended)] == [*longer, *ended]
    assert static.answer([*longer, *ended, 11, 12]) == plain.answer([*longer, *ended, 11, 12])


def test_it_says_whether_the_reply_ended(llama: Any) -> None:
    def returned(talk: Talk, end: tuple[int, ...], limit: int) -> bool:
        tokens = talk.tokens(PROMPT, GREEDY, limit, end)
        while True:
            try:
                next(tokens)
            except StopIteration as stop:
                return bool(stop.value)

    made = Talk(llama).answer(PROMPT)
    for end, limit in (((made[0],), 9), ((made[4],), 50), ((), 9), ((made[8],), 4)):
        static = Talk(llama, StaticSteps(llama, unrecorded, least=32))
        assert returned(static, end, limit) is returned(Talk(llama), end, limit)


@pytest.mark.parametrize("family", NOT_STATIC)
def test_models_with_other_layers_are_left_alone(family: str, make_checkpoint: Callable[..., Path]) -> None:
    assert not is_static(load(make_checkpoint, family, NOT_STATIC[family]))


def test_a_full_device_gets_the_fixed_buffers_back(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = CausalModel(llama)
    shared.steps = StaticSteps(llama, unrecorded, least=64)
    settings = GREEDY.over(DEFAULTS)
    list(shared.generate(PROMPT, settings, end=(), limit=4))
    assert shared.steps._steps

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(llama, "forward", full)
    with pytest.raises(OutOfMemory):
        list(shared.generate([3, 4, 5], settings, end=(), limit=4))
    assert not shared.steps._steps


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_a_step_that_cannot_be_recorded_is_done_without(llama: Any, error: type[Exception]) -> None:
    tried = 0

    def failing(run: Run) -> Run:
        nonlocal tried
        tried += 1
        raise error("operation not permitted when stream is capturing")

    talk = Talk(llama, StaticSteps(llama, failing, least=32))
    assert talk.answer(PROMPT) == Talk(llama).answer(PROMPT)
    assert talk.answer([*PROMPT, 3]) == Talk(llama).answer([*PROMPT, 3])
    # What ran out of memory may fit next time; what cannot be recorded never will.
    assert tried == (1 if error is RuntimeError else 2)


def test_a_draw_that_cannot_be_recorded_is_done_without(llama: Any) -> None:
    recorded: list[Run] = []

    def only_the_first(run: Run) -> Run:
        recorded.append(run)
        if len(recorded) > 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return run

    talk = Talk(llama, StaticSteps(llama, only_the_first, least=32))
    assert talk.answer(PROMPT) == Talk(llama).answer(PROMPT)
    assert len(recorded) == 2


def test_a_recording_that_computes_something_else_is_not_used(llama: Any) -> None:
    steps = StaticSteps(llama, lambda run: lambda: None, least=32)
    assert steps.holding(10, GREEDY.over(DEFAULTS)) is None
    assert Talk(llama, steps).answer(PROMPT) == Talk(llama).answer(PROMPT)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch's compiler wants g++ on a CPU")
def test_a_compiled_step_gives_the_tokens_of_the_plain_loop(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    llama = load(make_checkpoint, "llama", {"num_hidden_layers": 1})
    steps = StaticSteps(llama, unrecorded, least=128)
    assert steps.compile()
    for settings in SETTINGS.values():
        assert Talk(llama, steps).answer(PROMPT, settings) == Talk(llama).answer(PROMPT, settings)


def test_what_cannot_be_compiled_is_recorded_as_it_was(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to find a C compiler")

    monkeypatch.setattr(torch, "compile", lambda forward: fails)
    steps = StaticSteps(llama, unrecorded, least=32)
    assert not steps.compile()
    assert steps.holding(10, GREEDY.over(DEFAULTS))
    assert Talk(llama, steps).answer(PROMPT) == Talk(llama).answer(PROMPT)


def test_a_step_that_is_compiled_wrongly_is_not_used(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(**told: Any) -> Any:
        out = llama(**told)
        out.logits = out.logits.flip(-1)
        return out

    monkeypatch.setattr(torch, "compile", lambda forward: wrong)
    steps = StaticSteps(llama, unrecorded, least=32)
    assert not steps.compile()
    assert Talk(llama, steps).answer(PROMPT) == Talk(llama).answer(PROMPT)


def test_who_asks_for_a_draft_model_gets_its_guesses(llama: Any) -> None:
    drafted, plain = CausalModel(llama), CausalModel(llama)
    drafted.steps, drafted.draft = StaticSteps(llama, unrecorded, least=32), CausalModel(llama)
    settings = GREEDY.over(DEFAULTS)
    made, told = (list(each.generate(PROMPT, settings, end=(), limit=40)) for each in (drafted, plain))
    assert made == told
    assert drafted.draft.talks.latest.ids[: len(PROMPT)] == PROMPT


def test_logits_that_are_no_numbers_are_an_error_and_leave_no_token(llama: Any) -> None:
    steps = StaticSteps(llama, unrecorded, least=32)
    talk = Talk(llama, steps)
    tokens = talk.tokens(PROMPT, GREEDY, 50)
    made = [next(tokens) for _ in range(4)]
    norm = llama.model.norm.weight
    kept = norm.detach().clone()
    try:
        norm.data.fill_(torch.nan)
        with pytest.raises(EngineError, match="no usable numbers"):
            for token in tokens:
                made.append(token)
    finally:
        norm.data.copy_(kept)
    assert made == Talk(llama).answer(PROMPT)[: len(made)]


def test_nothing_is_recorded_on_a_cpu(llama: Any) -> None:
    assert is_static(llama)
    assert not can_be_recorded(llama)
