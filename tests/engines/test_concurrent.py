"""Many threads at once: each gets what it would get alone, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from seeing_models import picture
from waiting import until

from chatcli.adapters.table import shipped
from chatcli.constraints import choice
from chatcli.conversation import Conversation, Message
from chatcli.engines.concurrent import ConcurrentEngine, open_concurrent
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import ChatcliError, ContextOverflow, EngineError, UsageError
from chatcli.generation import Event, Finished, GenerationSettings, Progress, Reasoning, Text, TokenLogprob
from chatcli.images import image_of
from chatcli.models.checkpoint import open_checkpoint
from chatcli.runtime.requests import Request

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"


def ask(text: str, **settings: Any) -> tuple[Conversation, GenerationSettings]:
    return Conversation((Message("user", text),)), GenerationSettings(**{"max_new_tokens": 12, **settings})


GREEDY = GenerationSettings(temperature=0.0, max_new_tokens=9)
BEGUN = Conversation((Message("user", "Go on"), Message("assistant", "I am")))
TOO_LONG = Conversation(
    (*(Message(role, "word " * 60) for _ in range(4) for role in ("user", "assistant")), Message("user", "x"))  # type: ignore[arg-type]
)
ASKED = [
    ask("Hello there", temperature=0.0),
    ask("你好，请介绍一下北京。" * 5, temperature=0.0, max_new_tokens=30),
    ask("x", temperature=0.9, seed=3, top_logprobs=2),
    ask("Stop", temperature=0.0, stop=("e", "a"), top_logprobs=0),
    ask("One of two", temperature=1.0, seed=5, constraint=choice(["left", "right"])),
    ask("Again and again", temperature=0.5, seed=7, top_p=0.9, repetition_penalty=1.3),
    (BEGUN, GREEDY),
    (TOO_LONG, GREEDY),
]


def opened(folder: Path) -> LocalEngine:
    return open_local(open_checkpoint(folder), shipped(), lambda progress: None)


def heard(events: Generator[Event]) -> tuple[Any, ...]:
    """What a reader gets of a stream: text, reasoning, notes, how it ended and what was known of its tokens."""
    with closing(events):
        told = list(events)
    text = "".join(each.text for each in told if isinstance(each, Text))
    reasoning = "".join(each.text for each in told if isinstance(each, Reasoning))
    notes = [each.note for each in told if isinstance(each, Progress) and each.note]
    last = told[-1]
    assert isinstance(last, Finished)
    return text, reasoning, notes, last.reason, last.prompt_tokens, last.completion_tokens, _about(last.logprobs)


def _about(logprobs: Sequence[TokenLogprob]) -> list[tuple[Any, ...]]:
    return [(each.id, each.text, round(each.logprob, 2), [top.id for top in each.top]) for each in logprobs]


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Iterator[ConcurrentEngine]:
    engine = open_concurrent(open_checkpoint(tiny_llama), shipped(), lambda progress: None)
    yield engine
    engine.close()


@contextmanager
def held(engine: ConcurrentEngine) -> Iterator[None]:
    """While this lasts, the thread that computes does nothing else."""
    begun, over = threading.Event(), threading.Event()

    def hold(_: LocalEngine) -> None:
        begun.set()
        over.wait()

    holder = threading.Thread(target=engine.run, args=(hold,))
    holder.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        holder.join()


@pytest.mark.parametrize("family", ["llama", "lfm2", "chatglm1"])
def test_answers_are_those_of_each_alone(family: str, make_checkpoint: Callable[..., Path]) -> None:
    """Models whose rows cannot share a batch take turns; the first ChatGLM counts positions in its own way."""
    own = {"layer_types": ["conv", "full_attention"]} if family == "lfm2" else {}
    folder = GOLDEN / "chatglm1" if family == "chatglm1" else make_checkpoint(family, seed=2, **own)
    asked = [each for each in ASKED if family != "chatglm1" or not each[1].constraint]
    reference = opened(folder)
    expected = [heard(reference.another_talk().stream(*each)) for each in asked]
    with closing(ConcurrentEngine(opened(folder))) as engine, ThreadPoolExecutor(len(asked)) as threads:
        for _ in range(2):  # the second time much is kept
            assert list(threads.map(lambda each: heard(engine.stream(*each)), asked)) == expected


def test_pictures_are_answered_beside_text(make_seeing_checkpoint: Callable[[str], Path]) -> None:
    """The model keeps the places of a picture's patches from step to step, which others must not see."""
    folder = make_seeing_checkpoint("qwen2_vl")
    wide, tall = image_of(picture(40, 24), "wide.png"), image_of(picture(16, 56, shift=5), "tall.png")
    settings = GenerationSettings(temperature=0.0, max_new_tokens=12)
    messages = [
        Message("user", "What is it?", attachments=(wide,)),
        Message("user", "Nothing to see"),
        Message("user", "And this?", attachments=(tall,)),
        Message("user", "A longer question, about nothing at all, and without a picture"),
    ]
    talks = [Conversation((each,)) for each in messages]
    reference = opened(folder)
    expected = [heard(reference.another_talk().stream(talk, settings)) for talk in talks]
    with closing(ConcurrentEngine(opened(folder))) as engine, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda talk: heard(engine.stream(talk, settings)), talks)) == expected


def test_who_closes_a_stream_is_gone_and_the_others_go_on(llama: ConcurrentEngine) -> None:
    steps, said, go = count(), threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        if next(steps) >= 100 or said.is_set():
            go.wait()

    hook = llama.run(lambda engine: engine.model.module.model.layers[0].register_forward_pre_hook(hold))
    with closing(llama.stream(*ask("Hello", temperature=0.0, max_new_tokens=300))) as leaving:
        assert any(isinstance(each, Text) for each in leaving)
        said.set()
        with closing(llama.stream(*ask("Hello there", temperature=0.0))) as staying:
            next(staying)
            until(lambda: llama.running + llama.waiting == 2)
            leaving.close()
            go.set()
            assert isinstance(list(staying)[-1], Finished)
    until(lambda: llama.running == 0 and llama.waiting == 0)
    hook.remove()


def test_one_that_waits_says_so_and_can_be_closed(llama: ConcurrentEngine) -> None:
    with held(llama), closing(llama.stream(*ask("Hello"))) as events:
        assert next(events) == Progress("waiting") == next(events)
        assert llama.waiting == 1
    until(lambda: llama.running == 0 and llama.waiting == 0)


def test_cached_tokens_are_told_although_the_request_had_to_wait(llama: ConcurrentEngine) -> None:
    first = list(llama.stream(*ask("The very same question", temperature=0.0)))[-1]
    with closing(llama.stream(*ask("The very same question", temperature=0.0))) as events:
        with held(llama):
            assert next(events) == Progress("waiting")
        second = list(events)[-1]
    assert isinstance(first, Finished) and isinstance(second, Finished)
    assert second.cached_tokens == first.prompt_tokens - 1


def test_a_defect_reaches_everybody_who_waits_and_the_engine_goes_on(tiny_llama: Path) -> None:
    local = opened(tiny_llama)
    engine, expected = ConcurrentEngine(local), heard(local.another_talk().stream(*ASKED[0]))
    hook = local.model.module.model.layers[0].register_forward_pre_hook(lambda *_: 1 // 0)

    def failing(_: int) -> ChatcliError:
        with pytest.raises(EngineError, match=r"ZeroDivisionError.*defect of chatcli") as caught:
            heard(engine.stream(*ASKED[0]))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        return caught.value

    with ThreadPoolExecutor(4) as threads:
        errors = list(threads.map(failing, range(4)))
    assert len(set(map(id, errors))) == 4
    hook.remove()
    assert heard(engine.stream(*ASKED[0])) == expected
    engine.close()


def test_a_seed_that_no_generator_takes_is_that_request_s_error_alone(llama: ConcurrentEngine) -> None:
    with pytest.raises(ChatcliError):
        heard(llama.stream(*ask("x", temperature=1.0, seed=1 << 80)))
    assert heard(llama.stream(*ASKED[0]))[3] in ("stop", "length")


def test_a_request_that_cannot_even_be_taken_ends_nobody_else(llama: ConcurrentEngine) -> None:
    """The thread ended with it, and whoever asked later waited for ever."""
    told: list[object] = []
    llama._worker.answer(Request(None, GenerationSettings(), (), 1, told.append))  # type: ignore[arg-type]
    assert heard(llama.stream(*ASKED[0]))[3] in ("stop", "length")
    assert [type(each) for each in told] == [EngineError]


def test_closing_ends_what_is_under_way_and_refuses_what_comes_later(tiny_llama: Path) -> None:
    local = opened(tiny_llama)
    engine = ConcurrentEngine(local)
    # It computes when it is being closed, not before.
    local.model.module.model.layers[0].register_forward_pre_hook(lambda *_: until(lambda: engine._worker._closed))
    with closing(engine.stream(*ask("Hello", temperature=0.0, max_new_tokens=300))) as events:
        next(events)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            list(events)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        list(engine.stream(*ask("Hello")))
    with pytest.raises(EngineError, match="closed"):
        engine.run(lambda local: local.facts)


def test_work_between_two_steps_gives_its_result_or_its_error(llama: ConcurrentEngine) -> None:
    assert llama.run(lambda engine: engine.facts) == llama.facts
    with pytest.raises(KeyError):
        llama.run(lambda engine: {}["nothing"])


def test_work_without_end_does_not_hold_the_answers_up(llama: ConcurrentEngine) -> None:
    """Two clients that asked for many vectors took turns, and nobody else had one."""
    over = threading.Event()

    def again() -> None:
        if not over.is_set():
            llama._worker.submit(again)

    again()
    assert heard(llama.stream(*ASKED[0]))[3] in ("stop", "length")
    over.set()


def test_bare_text_is_gone_on_with_under_no_template(llama: ConcurrentEngine, tiny_llama: Path) -> None:
    local = opened(tiny_llama)
    settings = GenerationSettings(temperature=0.0, max_new_tokens=20)
    ids = local._chat.tokenizer.encode("The quick <|im_start|>").ids
    assert 1 in ids  # a special token is one
    full = settings.over(local.facts.defaults)
    made = [each for each in local.model.generate(ids, full, end=(2,), limit=20) if isinstance(each, int)]
    text, reasoning, _, reason, prompt, count, _ = heard(llama.complete("The quick <|im_start|>", settings))
    assert (text, reasoning) == (local._chat.tokenizer.decode(made), "")
    assert (prompt, count, reason) == (len(ids), len(made), "length" if len(made) == 20 else "stop")
    assert heard(llama.complete(ids, settings))[0] == text
    stop = text[4:7]
    assert heard(llama.complete(ids, GenerationSettings(temperature=0.0, stop=(stop,))))[0] == text[: text.index(stop)]


@pytest.mark.parametrize("prompt", ["", [], [5, -1], [5, 100_000]])
def test_a_prompt_that_is_none_is_refused(prompt: str | list[int], llama: ConcurrentEngine) -> None:
    with pytest.raises(UsageError, match="not empty"):
        list(llama.complete(prompt, GenerationSettings()))


def test_a_bare_text_that_fills_the_context_is_refused(llama: ConcurrentEngine) -> None:
    with pytest.raises(ContextOverflow, match="512"):
        list(llama.complete([5] * 512, GenerationSettings()))
    assert heard(llama.complete([5] * 511, GenerationSettings(temperature=0.0)))[5] == 1
