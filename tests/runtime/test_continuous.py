"""Whoever joins, leaves or has to make room: every request comes to the tokens that it comes to alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from asking import END, GREEDY, Heard, alone, ask, run, text
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from chatcli.constraints import choice, grammar
from chatcli.errors import ChatcliError, EngineError, OutOfMemory
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.constrain import TokenConstraint, Vocabulary
from chatcli.runtime.continuous import LEAST_CHUNK, PAUSE_SECONDS, Continuous
from chatcli.runtime.model import CausalModel

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 24},
    "mistral": {"sliding_window": 16},
    "gpt_neox": {"num_key_value_heads": None},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


@pytest.fixture(scope="module")
def loaded(make_checkpoint: Callable[..., Path]) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def model(family: str) -> Any:
        if family not in made:
            folder = make_checkpoint(family, seed=4, **FAMILIES[family])
            made[family] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return made[family]

    return model


@pytest.fixture
def llama(loaded: Callable[[str], Any]) -> CausalModel:
    return CausalModel(loaded("llama"))


@pytest.mark.parametrize(
    ("family", "tight"), [*((family, False) for family in FAMILIES), ("llama", True), ("gemma2", True)]
)
def test_tokens_are_those_of_each_alone_whenever_rows_join_leave_and_make_room(
    family: str, tight: bool, loaded: Callable[[str], Any]
) -> None:
    """Prompts that share beginnings, or go on with an answer, at random moments, in a memory for a few of them."""
    draw, module = Random(family), loaded(family)
    shared, reference = CausalModel(module), CausalModel(module)
    shared.talks._budget = 60_000 if tight else 10**9
    batch = Continuous(shared, budget=120_000 if tight else 10**9)
    system, asked, gone = text(9, 45), list[Heard](), list[Heard]()
    answered, most = list[int](), 0
    while len(asked) < 16 or batch.advance():
        if len(asked) < 16 and draw.random() < 0.8:
            beginning = draw.choice([[], system, system[:20], answered])
            ids = [*beginning, *text(len(asked), draw.choice([1, 4, 30, 90]))]
            settings = GenerationSettings(
                temperature=draw.choice([0.0, 1.0]),
                seed=len(asked),
                top_k=draw.choice([0, 9]),
                top_logprobs=draw.choice([0, None]),
            )
            asked.append(ask(ids, settings.over(DEFAULTS), draw.choice([1, 8, 40])))
            batch.add(asked[-1].request)
        batch.advance()
        most = max(most, batch.running)
        for each in asked:
            if each.over and not answered and len(each.tokens) > 3:
                answered = [*each.request.ids, *each.tokens]
            elif not each.over and each not in gone and draw.random() < 0.01:
                each.request.cancelled = True
                gone.append(each)
    assert most > (1 if tight else 3)
    for each in asked:
        expected = alone(reference, list(each.request.ids), each.request.settings, each.request.limit)
        made = [logprob for _, logprob, _ in each.request.logprobs]
        assert made == pytest.approx([logprob for _, logprob, _ in reference.logprobs][: len(made)], abs=1e-3)
        if each in gone:
            assert each.tokens == expected[: len(each.tokens)]
        else:
            assert each.tokens == expected
            assert each.told[-1] is (len(expected) < each.request.limit)


def test_a_constraint_a_penalty_and_probabilities_hold_beside_other_rows(llama: CausalModel, tiny_llama: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    vocabulary = Vocabulary(tokenizer, END, llama.module.get_input_embeddings().num_embeddings)

    def constraint() -> TokenConstraint:
        return TokenConstraint(vocabulary, grammar(choice(["left", "right"])), 12)

    penalised = GenerationSettings(temperature=0.0, repetition_penalty=1.5, top_logprobs=2).over(DEFAULTS)
    held, told, plain = ask(text(1, 9), constraint=constraint()), ask(text(2, 70), penalised), ask(text(3, 30))
    run(Continuous(llama), held, told, plain)
    assert tokenizer.decode(held.tokens) in ("left", "right")
    assert told.tokens == alone(llama, text(2, 70), penalised)
    expected = llama.logprobs
    assert [each[0] for each in told.request.logprobs] == told.tokens
    for (token, logprob, top), (same, other, others) in zip(told.request.logprobs, expected, strict=True):
        assert token == same and [each for each, _ in top] == [each for each, _ in others]
        assert logprob == pytest.approx(other, abs=1e-4)
    assert plain.tokens == alone(llama, text(3, 30)) and not plain.request.logprobs


def test_the_next_turn_of_a_talk_reads_only_what_is_new(llama: CausalModel) -> None:
    batch = Continuous(llama)
    first, other = ask(text(1, 40), limit=6), ask(text(2, 40), limit=9)
    run(batch, first, other)
    seen = [*first.request.ids, *first.tokens]
    again, more = ask([*seen, 7, 8], limit=4), ask(text(2, 40), limit=4)
    run(batch, again, more)
    assert (first.cached, again.cached) == (0, len(seen) - 1)  # the last token was never fed
    assert more.cached == 39
    assert again.tokens == alone(CausalModel(llama.module), [*seen, 7, 8], limit=4)


@pytest.mark.parametrize(
    "settings", [GREEDY, GenerationSettings(temperature=1.0, seed=5, top_logprobs=0).over(DEFAULTS)]
)
def test_one_alone_is_answered_without_the_batch_until_others_come_and_when_they_have_gone(
    settings: GenerationSettings, llama: CausalModel
) -> None:
    """An editor's only question had no guesses and no recorded steps because it came through a server."""
    rows: list[int] = []
    hook = llama.module.register_forward_pre_hook(
        lambda _, inputs, told: rows.append(len(told["input_ids"])), with_kwargs=True
    )
    batch, first, other = Continuous(llama), ask(text(1, 40), settings, 30), ask(text(2, 20), settings, 6)
    batch.add(first.request)
    while len(first.tokens) < 8:
        batch.advance()
    assert set(rows) == {1} and len(first.told) == 9
    batch.add(other.request)
    while not other.over:
        batch.advance()
    assert max(rows) == 2 and not first.over
    rows.clear()
    run(batch)
    hook.remove()
    assert set(rows) == {1} and first.told[-1] is False
    model = CausalModel(llama.module)
    assert first.tokens == alone(model, text(1, 40), settings, 30)
    assert [each[0] for each in first.request.logprobs] == [each[0] for each in model.logprobs]
    assert other.tokens == alone(model, text(2, 20), settings, 6)


def test_prompts_that_begin_alike_read_the_beginning_once(llama: CausalModel) -> None:
    asked = [ask([*text(5, 200), *text(each, 5)], limit=3) for each in range(4)]
    run(Continuous(llama), *asked)
    assert [each.cached for each in asked] == [0, 200, 200, 200]


def test_a_short_prompt_overtakes_a_long_one_and_a_long_one_is_not_put_off_for_ever(llama: CausalModel) -> None:
    long, short = ask(text(1, 400), limit=1), ask(text(2, 10), limit=1)
    batch = Continuous(llama)
    batch.add(long.request)
    batch.advance()
    batch.add(short.request)
    batch.advance()
    assert short.over and not long.over
    read = 0
    while not long.over:  # somebody with a chunk to read comes each time
        batch.add(ask(text(read, LEAST_CHUNK), limit=1).request)
        batch.advance()
        read += LEAST_CHUNK
    assert read <= 2 * 400 + LEAST_CHUNK


def test_one_that_leaves_is_gone_after_one_step_wherever_it_is(llama: CausalModel) -> None:
    batch = Continuous(llama)
    answering, reading, staying = ask(text(1, 5), limit=99), ask(text(2, 450)), ask(text(3, 6), limit=4)
    for each in (answering, staying, reading):
        batch.add(each.request)
        batch.advance()
    assert batch.running == 3 and len(answering.tokens) > 1 and not reading.tokens
    answering.request.cancelled = reading.request.cancelled = True
    told = len(answering.told), len(reading.told)
    batch.advance()
    assert batch.running == 1 and (len(answering.told), len(reading.told)) == told
    run(batch)
    assert staying.tokens == alone(llama, text(3, 6), limit=4)


def test_one_that_leaves_in_the_middle_of_a_chunk_ends_it_before_the_next_layer(llama: CausalModel) -> None:
    leaving, staying = ask(text(1, 50)), ask(text(2, 6), limit=5)
    lengths: list[int] = []

    def leave(module: Any, inputs: Any) -> None:
        leaving.request.cancelled = inputs[0].shape[1] == 50

    hooks = [
        llama.module.model.layers[0].register_forward_pre_hook(leave),
        llama.module.model.layers[1].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1])),
    ]
    batch = Continuous(llama)
    batch.add(leaving.request)
    batch.advance()
    assert batch.running == batch.waiting == 0 and lengths == []
    run(batch, staying)
    for hook in hooks:
        hook.remove()
    assert staying.tokens == alone(CausalModel(llama.module), text(2, 6), limit=5)
    assert len(leaving.told) == 1


def test_rows_that_outgrow_the_memory_wait_and_go_on_as_if_nothing_had_been(llama: CausalModel) -> None:
    settings = GenerationSettings(temperature=1.0, seed=3).over(DEFAULTS)
    asked = [ask(text(each, 10), settings, limit=120) for each in range(3)]
    first = Continuous(llama)
    for each in range(2):
        first.add(ask(text(each, 10)).request)
        first.advance()
    batch = Continuous(llama, budget=first._columns.bytes_per_token * 3 * 80)
    waited = 0
    for each in asked:
        batch.add(each.request)
    while batch.advance():
        waited = max(waited, batch.waiting) if asked[2].tokens else 0
    assert waited
    assert [each.tokens for each in asked] == [alone(llama, text(each, 10), settings, 120) for each in range(3)]


def _fails(error: Exception, when: Callable[[int], bool], *_: Any) -> None:
    if when(len(_[1][0])):
        raise error


def test_when_memory_runs_out_in_a_step_fewer_go_on_and_all_are_answered(llama: CausalModel) -> None:
    asked = [ask(text(each, 10 + each), limit=8) for each in range(4)]
    expected = [alone(llama, text(each, 10 + each), limit=8) for each in range(4)]
    full = partial(_fails, torch.OutOfMemoryError("CUDA out of memory"), lambda rows: rows > 2)
    hook = llama.module.model.layers[1].register_forward_pre_hook(full)
    run(Continuous(llama), *asked)
    hook.remove()
    assert [each.tokens for each in asked] == expected


def test_one_that_finds_no_memory_even_alone_is_told_and_the_next_is_answered(llama: CausalModel) -> None:
    expected = alone(llama, text(1, 10))
    full = partial(_fails, torch.OutOfMemoryError("CUDA out of memory"), lambda rows: True)
    hook = llama.module.model.layers[1].register_forward_pre_hook(full)
    refused, other = ask(text(1, 10)), ask(text(2, 10))
    batch = Continuous(llama)
    run(batch, refused, other)
    hook.remove()
    assert all(isinstance(each.told[-1], OutOfMemory) for each in (refused, other))
    later = ask(text(1, 10))
    run(batch, later)
    assert later.tokens == expected


def test_a_request_that_cannot_be_read_fails_alone(llama: CausalModel) -> None:
    unknown, other = ask([5, 100_000]), ask(text(1, 10))
    run(Continuous(llama), unknown, other)
    assert isinstance(unknown.told[-1], EngineError)
    assert other.tokens == alone(llama, text(1, 10))


def test_a_row_whose_numbers_break_spoils_no_other(llama: CausalModel) -> None:
    """Its keys and values, which are no numbers, stand beside the others', and in the room that a later row gets."""
    asked = [ask(text(each, 10), limit=30) for each in range(3)]
    later = ask(text(7, 1), limit=9)

    def broken(module: Any, inputs: Any, output: torch.Tensor) -> None:
        if len(output) == 3 and not asked[2].over and len(asked[2].tokens) == 3:
            output[2] = torch.nan

    hook = llama.module.model.layers[0].self_attn.v_proj.register_forward_hook(broken)
    batch = Continuous(llama)
    for each in asked:
        batch.add(each.request)
    while not asked[2].over:
        batch.advance()
    run(batch, later)
    hook.remove()
    assert isinstance(asked[2].told[-1], ChatcliError)
    for each in (asked[0], asked[1], later):
        expected = alone(CausalModel(llama.module), list(each.request.ids), limit=each.request.limit)
        assert each.tokens == expected


def test_a_prompt_whose_numbers_break_is_read_anew(llama: CausalModel) -> None:
    """What was no number stayed in the cache, and the same question came to the same error for ever."""
    hook = llama.module.model.layers[0].self_attn.v_proj.register_forward_hook(lambda *_: _[2].fill_(torch.nan))
    broken, again = ask(text(1, 40)), ask(text(1, 40))
    batch = Continuous(llama)
    run(batch, broken)
    hook.remove()
    run(batch, again)
    assert isinstance(broken.told[-1], EngineError)
    assert again.tokens == alone(CausalModel(llama.module), text(1, 40))


def test_a_step_that_fails_tells_everybody_and_the_next_request_is_answered(llama: CausalModel) -> None:
    asked = [ask(text(each, 10), limit=9) for each in range(3)]
    expected = alone(llama, text(0, 10), limit=9)
    hook = llama.module.model.layers[1].register_forward_pre_hook(
        partial(_fails, ValueError("a defect of the model"), lambda rows: rows > 1)
    )
    batch = Continuous(llama)
    run(batch, *asked)
    hook.remove()
    assert any(isinstance(each.told[-1], EngineError) for each in asked)
    later = ask(text(0, 10), limit=9)
    run(batch, later)
    assert later.tokens == expected


def test_a_model_with_a_running_state_takes_turns_token_by_token(loaded: Callable[[str], Any]) -> None:
    model = CausalModel(loaded("lfm2"))
    asked = [ask(text(each, 10), limit=10) for each in range(3)]
    batch = Continuous(model)
    for each in asked:
        batch.add(each.request)
    while batch.advance():
        if all(len(each.tokens) > 1 for each in asked) and not any(each.over for each in asked):
            counts = [len(each.tokens) for each in asked]
            assert max(counts) - min(counts) <= 4
    assert [each.tokens for each in asked] == [
        alone(CausalModel(loaded("lfm2")), text(e, 10), limit=10) for e in range(3)
    ]


def test_rows_wait_a_moment_for_as_many_newcomers_and_no_longer(llama: CausalModel) -> None:
    """Of sixteen that came at once the first wrote alone while each of the others was read."""
    batch = Continuous(llama)
    llama.pace.rate = 10 * LEAST_CHUNK / PAUSE_SECONDS
    asked = [ask(text(each, LEAST_CHUNK - 1), limit=40) for each in range(16)]
    for each in asked:
        batch.add(each.request)
    while not asked[9].tokens:
        assert len(asked[0].tokens) <= 1
        batch.advance()
    while not asked[15].tokens:
        batch.advance()
    assert len(asked[0].tokens) < 7
    made = [len(each.tokens) for each in asked]
    llama.pace.rate = 0.0
    batch.add(ask(text(99, 450), limit=2).request)
    for _ in range(3):
        batch.advance()
    assert [len(each.tokens) - before for each, before in zip(asked, made, strict=True)] == [3] * 16
    run(batch)
    assert asked[0].tokens == alone(CausalModel(llama.module), text(0, LEAST_CHUNK - 1), limit=40)
