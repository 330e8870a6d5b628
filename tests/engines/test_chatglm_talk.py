"""Talks with the recorded ChatGLM checkpoints: the replies of the original `chat()`, reuse, cancellation, retry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from chatcli.adapters.table import shipped
from chatcli.cli.main import app
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.generation import DEFAULTS, Finished, GenerationSettings, Progress, Text
from chatcli.history.store import Store
from chatcli.models.checkpoint import open_checkpoint
from chatcli.runtime.batch import decode_batch
from chatcli.runtime.model import CausalModel
from chatcli.runtime.sampling import Sampler
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"
GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
GMASK, SOP = 517, 520


@cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name / "golden.json").read_text(encoding="utf-8"))
    return found


@cache
def opened(name: str) -> LocalEngine:
    return open_local(open_checkpoint(GOLDEN / name), shipped(), lambda progress: None)


def asked(chat: dict[str, Any]) -> Conversation:
    """The conversation that a recorded `chat()` was called with."""
    messages: list[Message] = []
    for entry in chat["history"]:
        if isinstance(entry, dict):
            messages.append(Message(entry["role"], entry["content"]))
        else:
            messages += [Message("user", entry[0]), Message("assistant", entry[1])]
    return Conversation((*messages, Message("user", chat["query"])))


def limited(name: str, engine: LocalEngine, chat: dict[str, Any]) -> GenerationSettings:
    """As long as the original was allowed to get; ChatGLM3's code drops the last token, which it takes for the end."""
    room = chat["max_length"] - len(engine._chat.encode(asked(chat))) - (name == "chatglm3")
    return GenerationSettings(temperature=0.0, max_new_tokens=room)


@pytest.mark.parametrize("turn", ["chat_first", "chat_second"])
@pytest.mark.parametrize("name", ["chatglm1", "chatglm2", "chatglm3"])
def test_the_reply_is_that_of_the_original_chat(name: str, turn: str) -> None:
    engine, chat = opened(name), recorded(name)[turn]
    events = list(engine.stream(asked(chat), limited(name, engine, chat)))
    assert "".join(e.text for e in events if isinstance(e, Text)) == sanitize(chat["response"])


@pytest.mark.parametrize("name", ["chatglm1", "chatglm2", "chatglm3"])
def test_a_session_goes_on_with_what_it_showed(name: str, tmp_path: Path) -> None:
    """The history sent back holds the cleaned-up reply: the prompt of the second turn shows it."""
    engine, chat = opened(name), recorded(name)["chat_first"]
    session = Session(engine, limited(name, engine, chat), Store.open(tmp_path / "history.db"))
    list(session.say(chat["query"]))
    expected = sanitize(chat["response"])
    assert session.conversation.spoken[-1].text == expected
    second = asked({"query": "今天", "history": [[chat["query"], expected]]})
    with closing(session.say("今天")) as events:
        next(e for e in events if isinstance(e, Text))
    assert session.conversation.messages[:3] == second.messages
    fresh = open_local(open_checkpoint(GOLDEN / name), shipped(), lambda progress: None)
    few = GenerationSettings(temperature=0.0, max_new_tokens=24)
    told = "".join(e.text for e in fresh.stream(second, few) if isinstance(e, Text))
    assert told.startswith(session.conversation.spoken[-1].text)


def plain(messages: list[dict[str, Any]]) -> bool:
    """Whether a recorded talk is one that chatcli has: no tools, no observations; a question comes last."""
    return messages[-1]["role"] == "user" and all(
        m["role"] in ("system", "user", "assistant") and not m.get("tools") and not m.get("metadata") for m in messages
    )


def talks() -> list[tuple[str, list[dict[str, Any]], list[int]]]:
    third = [
        ("chatglm3", [*case["history"], {"role": "user", "content": case["query"]}], case["input_ids"][0])
        for case in recorded("chatglm3")["build_chat_input"]
        if case["role"] == "user"
    ]
    fourth = [("glm4", case["messages"], case["input_ids"][0]) for case in recorded("glm4")["apply_chat_template"]]
    return [talk for talk in (*third, *fourth) if plain(talk[1])]


@pytest.mark.parametrize(("name", "messages", "ids"), talks(), ids=lambda value: str(value)[:24])
def test_a_prompt_has_the_recorded_ids(name: str, messages: list[dict[str, Any]], ids: list[int]) -> None:
    engine = opened(name)
    prompt = engine._chat.encode(Conversation(tuple(Message(m["role"], m["content"]) for m in messages)))
    if "<|" not in messages[-1]["content"]:
        assert prompt == ids
        return
    # Someone plays a role by typing its token. GLM-4's own code took it for one; here it stays text.
    control = engine._chat.tokenizer.get_added_tokens_decoder()
    assert [i for i in prompt if i in control] == {
        "chatglm3": [901, 903, 905, 906, 907],
        "glm4": [702, 704, 707, 708],
    }[name]
    assert messages[-1]["content"] in engine._chat.tokenizer.decode(prompt)


def made(model: CausalModel, prompt: Sequence[int], limit: int) -> tuple[list[int], int]:
    """New ids, and how many of the prompt's were cached."""
    cached, ids = -1, []
    for item in model.generate(prompt, GREEDY, end=(), limit=limit):
        if isinstance(item, Progress):
            cached = item.done if cached < 0 else cached
        elif isinstance(item, int):
            ids.append(item)
    return ids, cached


def first() -> Any:
    return opened("chatglm1")._model._model


def context(data: st.DataObject, most: int = 12) -> list[int]:
    return data.draw(st.lists(st.integers(5, 500), min_size=1, max_size=most))


@settings(max_examples=25)
@given(data=st.data())
def test_reuse_equals_recompute_for_any_sequence_of_prompts(data: st.DataObject) -> None:
    """Prompts that share a beginning, an end of the context, a reply; contexts that grow and that shrink."""
    talking = CausalModel(first())
    prompt: list[int] = [*context(data), GMASK, SOP]
    for _ in range(4):
        ids, _ = made(talking, prompt, 5)
        assert ids == made(CausalModel(first()), prompt, 5)[0]
        kept = prompt[: data.draw(st.integers(0, len(prompt)))]
        match data.draw(st.sampled_from(["again", "go on", "grow", "cut"])):
            case "go on":
                prompt = [*prompt, *ids[: data.draw(st.integers(1, 5))]]
            case "grow":
                prompt = [*(i for i in kept if i != SOP), *context(data), GMASK, SOP]
            case "cut":
                prompt = [*(i for i in kept if i not in (SOP, GMASK)), 9, GMASK, SOP]


def test_what_was_read_is_read_again_only_where_the_context_changed() -> None:
    talking = CausalModel(first())
    prompt = [*range(5, 45), GMASK, SOP]
    ids, cached = made(talking, prompt, 6)
    assert cached == 0
    assert made(talking, prompt, 6) == (ids, len(prompt) - 1)  # a retry feeds <sop> alone
    assert made(talking, [*prompt, *ids[:3]], 3) == (ids[3:], len(prompt) + 2)  # going on in the answer
    longer = [*prompt[:-2], 9, GMASK, SOP]
    assert made(talking, longer, 6)[1] == 0  # every token of the context saw the end of the old one
    assert made(talking, prompt, 6) == (ids, 0)


def test_a_prompt_left_between_chunks_and_a_reply_left_in_the_middle_spoil_nothing() -> None:
    talking = CausalModel(first())
    prompt = recorded("chatglm1")["cases"]["long602"]["input_ids"][0]
    expected = recorded("chatglm1")["cases"]["long602"]["final_ids"][0][len(prompt) :]
    steps = talking.generate(prompt, GREEDY, end=(), limit=4)
    next(steps)
    steps.close()
    with closing(talking.generate(prompt, GREEDY, end=(), limit=4)) as steps:
        assert next(item for item in steps if isinstance(item, int)) == expected[0]
    assert made(talking, prompt, 4) == (expected, len(prompt) - 1)


def test_retry_says_the_same_again(tmp_path: Path) -> None:
    engine, chat = opened("chatglm1"), recorded("chatglm1")["chat_second"]
    few = GenerationSettings(temperature=0.0, max_new_tokens=9)
    session = Session(engine, few, Store.open(tmp_path / "history.db"))
    list(session.say(chat["query"]))
    before = session.conversation
    list(session.retry())
    assert session.conversation == before
    assert session.last is not None and session.last.cached_tokens == session.last.prompt_tokens - 1


@pytest.mark.parametrize("name", ["chatglm1", "chatglm3"])
def test_prompts_of_a_batch_say_what_each_says_alone(name: str) -> None:
    model = opened(name)._model._model
    tail = [GMASK, SOP] if name == "chatglm1" else []
    prompts = [[5, 41, *tail], [*range(7, 40), *tail], [9, 8, 7, 6, *tail]]
    samplers = [Sampler(GREEDY, torch.device("cpu")) for _ in prompts]
    rows: list[list[int]] = [[] for _ in prompts]
    for row, token in decode_batch(model, prompts, samplers, end=[()] * 3, limits=[3, 6, 5]):
        assert token is not None
        rows[row].append(token)
    assert rows == [made(CausalModel(model), p, n)[0] for p, n in zip(prompts, (3, 6, 5), strict=True)]


def test_no_usable_numbers_are_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    """The original went on with a token of its own choice, 5, for ever."""
    from chatcli.errors import EngineError

    model = open_local(open_checkpoint(GOLDEN / "chatglm1"), shipped(), lambda progress: None)
    with torch.no_grad():
        model._model._model.transformer.final_layernorm.weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="NaN"):
        list(model.stream(Conversation((Message("user", "你好"),)), GREEDY))


@pytest.mark.parametrize("name", ["chatglm1", "chatglm2"])
def test_ask_prints_the_reply_of_the_original(name: str, tmp_path: Path) -> None:
    chat = recorded(name)["chat_first"]
    room = limited(name, opened(name), chat).max_new_tokens
    command = ["ask", "-m", str(GOLDEN / name), "--temperature", "0", "--max-tokens", str(room), chat["query"]]
    done = CliRunner(env={"CHATCLI_HOME": str(tmp_path)}).invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == sanitize(chat["response"]) + "\n"


def test_the_last_event_counts_the_whole_prompt() -> None:
    engine, chat = opened("chatglm3"), recorded("chatglm3")["chat_first"]
    events = list(engine.stream(asked(chat), limited("chatglm3", engine, chat)))
    assert isinstance(events[-1], Finished) and events[-1].prompt_tokens == 8
