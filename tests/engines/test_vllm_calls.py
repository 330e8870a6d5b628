"""Our side of vLLM: which ids go in, what ends a reply, what text comes of it.

A stand-in has the shape of its `AsyncLLM`; vLLM itself, which needs a GPU, has not been run by any test.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from chatcli.adapters.format import chat_format
from chatcli.adapters.table import shipped
from chatcli.constraints import json_schema
from chatcli.conversation import Conversation, Message
from chatcli.engines.vllm import VllmEngine, open_vllm
from chatcli.errors import EngineError, UsageError
from chatcli.generation import Finished, GenerationSettings, Text
from chatcli.load_request import NOTHING_SAID
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer

ASKED = Conversation((Message("system", "Be brief."), Message("user", "Hello there")))
GREEDY = GenerationSettings(temperature=0, max_new_tokens=50)


@dataclass
class Params:
    """Stands for `SamplingParams` and `StructuredOutputsParams`: keeps what it is given."""

    given: dict[str, Any]

    def __init__(self, **given: Any) -> None:
        self.given = given


@dataclass
class StandIn:
    """Stands for `AsyncLLM`: plays ids, two at a time."""

    plays: list[int] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    prompts: list[list[int]] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)
    aborted: int = 0
    ended: bool = False
    error: Exception | None = None

    async def generate(self, prompt: dict[str, list[int]], params: Params, request_id: str) -> AsyncGenerator[Any]:
        self.prompts.append(prompt["prompt_token_ids"])
        self.params.append(params.given)
        try:
            for at in range(0, len(self.plays), 2):
                await asyncio.sleep(0.001)
                ids = self.plays[at : at + 2]
                yield types.SimpleNamespace(num_cached_tokens=4, outputs=[types.SimpleNamespace(token_ids=ids)])
            if self.error:
                raise self.error
        except asyncio.CancelledError:
            self.aborted += 1
            raise

    def shutdown(self) -> None:
        self.ended = True


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    llm = StandIn()

    def made(arguments: Params) -> StandIn:
        llm.arguments = arguments.given
        return llm

    kind = types.SimpleNamespace(DELTA="delta")
    modules: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": Params},
        "vllm.sampling_params": {"RequestOutputKind": kind, "StructuredOutputsParams": Params},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": Params},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": types.SimpleNamespace(from_engine_args=made)},
    }
    for name, held in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(held)
        monkeypatch.setitem(sys.modules, name, module)
    return llm


@pytest.fixture
def engine(stand_in: StandIn, tiny_llama: Path) -> Iterator[VllmEngine]:
    made = open_vllm(open_checkpoint(tiny_llama), shipped(), NOTHING_SAID, tensor=4, pipeline=2)
    yield made
    made.close()
    assert stand_in.ended


def said(engine: VllmEngine, settings: GenerationSettings = GREEDY) -> tuple[str, Finished]:
    events = list(engine.stream(ASKED, settings))
    assert isinstance(events[-1], Finished)
    return "".join(each.text for each in events if isinstance(each, Text)), events[-1]


def test_our_prompt_goes_in_and_our_stop_rules_end_it(engine: VllmEngine, stand_in: StandIn, tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    tokenizer = read_tokenizer(checkpoint)
    assert tokenizer
    chat = chat_format(checkpoint, tokenizer, shipped())
    end = min(chat.end)
    answer = tokenizer.encode("I am fine, thank you.").ids
    stand_in.plays = [*answer, end, *answer]
    text, finished = said(engine)
    assert text == "I am fine, thank you."
    assert (finished.reason, finished.completion_tokens, finished.cached_tokens) == ("stop", len(answer), 4)
    assert stand_in.prompts == [chat.encode(ASKED)]
    given = stand_in.params[0]
    assert given["stop_token_ids"] == sorted(chat.end)
    assert (given["max_tokens"], given["temperature"], given["detokenize"]) == (50, 0, False)
    assert stand_in.arguments["tensor_parallel_size"] == 4
    assert stand_in.arguments["pipeline_parallel_size"] == 2
    assert stand_in.arguments["distributed_executor_backend"] == "ray"
    assert stand_in.arguments["trust_remote_code"] is False


def test_a_stop_string_ends_it_and_vllm_is_told(engine: VllmEngine, stand_in: StandIn, tiny_llama: Path) -> None:
    tokenizer = read_tokenizer(open_checkpoint(tiny_llama))
    assert tokenizer
    stand_in.plays = tokenizer.encode("one two three. " * 200).ids
    text, finished = said(engine, GenerationSettings(stop=("three",), max_new_tokens=400))
    assert text == "one two "
    assert finished.reason == "stop"
    until(lambda: stand_in.aborted)  # the loop is vLLM's own


def test_a_schema_is_vllms_to_hold(engine: VllmEngine, stand_in: StandIn) -> None:
    stand_in.plays = [5, 6]
    constraint = json_schema('{"type": "object"}')
    said(engine, GenerationSettings(constraint=constraint, max_new_tokens=9))
    assert stand_in.params[0]["structured_outputs"].given == {"json": constraint.text}


def test_what_is_not_passed_on_is_refused(engine: VllmEngine) -> None:
    with pytest.raises(UsageError, match="Log probabilities"):
        said(engine, GenerationSettings(top_logprobs=2))
    with pytest.raises(UsageError, match="vectors"):
        engine.embed(["a"])


def test_a_failure_of_vllms_is_told_as_one(engine: VllmEngine, stand_in: StandIn) -> None:
    stand_in.error = RuntimeError("CUDA error")
    with pytest.raises(EngineError, match="vLLM failed: CUDA error"):
        said(engine)


def test_without_vllm_a_sentence_says_what_to_install(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)
    with pytest.raises(UsageError, match=r"chatcli\[vllm\]"):
        open_vllm(open_checkpoint(tiny_llama), shipped(), NOTHING_SAID, tensor=1, pipeline=1)
