"""Calls of tools from ids to events, and answers that are held to be one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken, Tokenizer

from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.table import shipped
from chatcli.adapters.tool_choice import calls
from chatcli.constraints import grammar
from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.engines.local import LocalEngine, open_local
from chatcli.engines.reply import Reply
from chatcli.errors import UsageError
from chatcli.generation import Constraint, Event, Finished, GenerationSettings, Reasoning, Text, ToolCalled
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer
from chatcli.streaming.tool_calls import ToolSplitter
from chatcli.streaming.tool_formats import FORMATS

Chats = Callable[..., ChatFormat]

WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 9},
                "days": {"$ref": "#/$defs/days"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city", "days"],
            "$defs": {"days": {"type": "integer", "minimum": 0, "maximum": 9}},
        }
    ),
)
STOP = Tool("stop", "Stop.")
ASKED = Conversation((Message("user", "Hello"),), tools=(WEATHER, STOP))


@pytest.fixture(scope="module")
def engine(make_checkpoint: Callable[..., Path]) -> LocalEngine:
    """A model with random weights, whose template knows nothing of tools."""
    folder = make_checkpoint(max_position_embeddings=2048)
    return open_local(open_checkpoint(folder), shipped(), lambda progress: None)


@pytest.fixture(scope="module")
def chats(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chats:
    """The chat format of a checkpoint with that template, those special tokens, that name."""

    def make(template: str, special: str, name: str = "someone/thing", model_type: str = "llama") -> ChatFormat:
        model_type = f'"model_type": "{model_type}"'
        folder = tmp_path_factory.mktemp("chat")
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_text((tiny_llama / file).read_text().replace('"model_type": "llama"', model_type))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special.split()])
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
        checkpoint = open_checkpoint(folder, name)
        made = read_tokenizer(checkpoint)
        assert made
        return chat_format(checkpoint, made, shipped())

    return make


def replied(chat: ChatFormat, text: str, tools: tuple[Tool, ...], *, inside: bool = False) -> tuple[list[Event], Reply]:
    """The events of a reply, texts in a row as one, without what ids and pieces differ in."""
    reply = Reply(chat, GenerationSettings(), inside=inside, tools=tools)
    events: list[Event] = []
    for token in chat.tokenizer.encode(text, add_special_tokens=False).ids:
        events += map(reply.show, reply.push(token))
    events += map(reply.show, reply.flush(ended=True))
    merged: list[Event] = []
    for event in events:
        if merged and isinstance(event, Text | Reasoning) and type(event) is type(merged[-1]):
            merged[-1] = type(event)(merged[-1].text + event.text)
        else:
            merged.append(ToolCalled(replace(event.call, id="")) if isinstance(event, ToolCalled) else event)
    return merged, reply


MISTRAL = "{{ tools }}[TOOL_CALLS][ARGS]{% for m in messages %}{{ m.content }}{% endfor %}"


def test_special_tokens_that_frame_a_call_are_seen_and_not_shown(chats: Chats) -> None:
    chat = chats(MISTRAL, "[TOOL_CALLS] [ARGS]")
    events, reply = replied(chat, 'Hi.[TOOL_CALLS]stop[ARGS]{"x": 1}', (STOP,))
    assert events == [Text("Hi."), ToolCalled(ToolCall("", "stop", '{"x": 1}'))]
    assert reply.reason(ended=True) == "tool_calls"
    assert reply.reason(ended=False) == "length"
    assert [(call.name, len(call.id)) for call in reply.shown.calls] == [("stop", 9)]
    events, reply = replied(chat, "Hi.[TOOL_CALLS]stop[ARGS] no", (STOP,))
    assert events == [Text("Hi.stop no")]
    assert reply.reason(ended=True) == "stop"


def test_without_tools_nothing_is_looked_for(chats: Chats) -> None:
    chat = chats(MISTRAL, "[TOOL_CALLS] [ARGS]")
    assert replied(chat, 'Hi.[TOOL_CALLS]stop[ARGS]{"x": 1}', ())[0] == [Text('Hi.stop{"x": 1}')]
    reply = Reply(chat, GenerationSettings(), inside=False)
    for token in chat.tokenizer.encode("A <tool", add_special_tokens=False).ids:
        assert reply.push(token) == [Text(chat.tokenizer.decode([token]))]


def test_calls_are_not_looked_for_in_thoughts(chats: Chats) -> None:
    chat = chats("{{ tools }}<tool_call>{{ messages[0].content }}", "")
    call = '<tool_call>{"name": "stop"}</tool_call>'
    events, _ = replied(chat, f"<think>I could write {call}</think>\n\n{call}", (STOP,))
    assert events == [Reasoning(f"I could write {call}"), ToolCalled(ToolCall("", "stop"))]


HARMONY = "<|start|> <|end|> <|message|> <|channel|> <|constrain|>"


def test_gpt_oss_thinks_says_and_calls_in_channels_of_their_own(chats: Chats) -> None:
    chat = chats("{{ tools }}{{ messages[0].content }}", HARMONY, "openai/gpt-oss-20b", "gpt_oss")
    assert chat.row == "gpt-oss"
    thought = "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant"
    said = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
    call = '<|channel|>commentary to=functions.stop <|constrain|>json<|message|>{"x": 1}'
    called = ToolCalled(ToolCall("", "stop", '{"x": 1}'))
    assert replied(chat, thought + said + call, (STOP,))[0] == [Reasoning("I need it."), Text("I look."), called]
    assert replied(chat, thought + call, (STOP,))[0] == [Reasoning("I need it."), called]
    final = "<|channel|>final<|message|>Yes."
    assert replied(chat, thought + final, (STOP,))[0] == [Reasoning("I need it."), Text("Yes.")]


def test_a_reply_that_is_gone_on_with_repeats_no_call(chats: Chats) -> None:
    chat = chats("{{ tools }}<tool_call>{{ messages[0].content }}", "")
    first = '<tool_call>{"name": "stop"}</tool_call>'
    _, begun = replied(chat, f"Well. {first}", (STOP,))
    second = Reply(chat, GenerationSettings(), begun.shown, inside=False, tools=(STOP,))
    encode = lambda text: chat.tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    assert second.replay(encode(f"Well. {first}")) == []
    events = [event for token in encode(f"\n{first}") for event in map(second.show, second.push(token))]
    assert [type(event) for event in events] == [ToolCalled]
    assert [call.name for call in second.shown.calls] == ["stop", "stop"]
    assert second.shown.calls[0] == begun.shown.calls[0]


def answered(engine: LocalEngine, conversation: Conversation, **settings: Any) -> tuple[list[ToolCall], str, Finished]:
    with closing(engine.stream(conversation, GenerationSettings(temperature=1.0, **settings))) as stream:
        events = list(stream)
    finished = events[-1]
    assert isinstance(finished, Finished)
    text = "".join(event.text for event in events if isinstance(event, Text))
    return [event.call for event in events if isinstance(event, ToolCalled)], text, finished


def test_a_model_that_must_call_a_tool_does(engine: LocalEngine) -> None:
    for seed in range(5):
        called, text, finished = answered(engine, replace(ASKED, tool_choice="get_weather"), seed=seed)
        assert (len(called), called[0].name, text, finished.reason) == (1, "get_weather", "", "tool_calls")
        jsonschema.validate(json.loads(called[0].arguments), json.loads(WEATHER.parameters))
        assert {"city", "days"} <= set(json.loads(called[0].arguments)) <= {"city", "days", "unit"}
    called, _, finished = answered(engine, replace(ASKED, tool_choice="required"), seed=1)
    assert {call.name for call in called} <= {"get_weather", "stop"}
    assert (bool(called), finished.reason) == (True, "tool_calls")


def test_an_answer_with_a_schema_conforms_or_is_a_call(engine: LocalEngine) -> None:
    """As agents want it that call tools and end with a structured answer."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    constraint, came = Constraint("schema", json.dumps(schema)), set()
    for seed in range(12):
        called, text, finished = answered(engine, ASKED, seed=seed, constraint=constraint, max_new_tokens=200)
        assert bool(called) != bool(text)
        if text:
            jsonschema.validate(json.loads(text), schema)
        came.add(finished.reason)
    assert came == {"tool_calls", "stop"}


def test_results_are_part_of_the_next_prompt_and_an_answer_needs_no_call(engine: LocalEngine) -> None:
    called, _, _ = answered(engine, replace(ASKED, tool_choice="get_weather"), seed=3)
    talk = ASKED.add(Message("assistant", "", calls=tuple(called))).add(Message("tool", "21", call=called[0].id))
    none, _, finished = answered(engine, replace(talk, tool_choice="none"), seed=4, max_new_tokens=8)
    assert (none, finished.reason) == ([], "length")
    assert finished.prompt_tokens == len(engine._encode(replace(talk, tools=()), GenerationSettings()))


def test_questions_that_are_answered_together_call_tools_as_well(engine: LocalEngine) -> None:
    settings = GenerationSettings(temperature=1.0, seed=1, max_new_tokens=90)
    asked = [(replace(ASKED, tool_choice=choice), settings) for choice in ("get_weather", "none", "nothing")]
    answers = {answer.index: answer for answer in engine.answer_together(asked)}
    assert [call.name for call in answers[0].message.calls] == ["get_weather"]
    assert answers[0].finished.reason == "tool_calls"
    assert answers[1].message.calls == ()
    assert isinstance(answers[2].error, UsageError)


def test_a_schema_that_cannot_be_followed_names_the_tool(engine: LocalEngine) -> None:
    odd = Tool("odd", parameters='{"type": "object", "properties": {"x": {"not": {"type": "string"}}}}')
    with pytest.raises(UsageError, match=r'schema of the tool odd cannot be followed.*"not"'):
        answered(engine, replace(ASKED, tools=(odd,), tool_choice="required"))
    assert answered(engine, replace(ASKED, tools=(odd,)), max_new_tokens=2)[2].reason == "length"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_grammar_of_every_format_is_read_back_as_a_call(name: str) -> None:
    """Any text that the grammar allows, letter by letter, is a call that conforms."""
    import random

    from llguidance import LLMatcher, LLTokenizer

    form, chance = FORMATS[name], random.Random(7)
    made = grammar(calls(form, [WEATHER, STOP], {}, one=False))
    letters = LLTokenizer("byte")
    for _ in range(6):
        matcher, text = LLMatcher(letters, made, log_level=0), bytearray()
        while not (matcher.is_accepting() and len(text) > 20) and len(text) < 2000:
            allowed = [i for i, bias in enumerate(matcher.compute_logit_bias()[:256]) if bias]
            allowed = [i for i in allowed if i < 127] or allowed
            if not allowed:
                break
            ending = [i for i in allowed if chr(i) in '"}]<\n)'] if len(text) > 60 else []
            text.append(chance.choice(ending or allowed))
            assert matcher.consume_token(text[-1])
        splitter = ToolSplitter(form, [WEATHER, STOP])
        events = [*splitter.push(text.decode()), *splitter.flush()]
        assert events, text
        for event in events:
            assert isinstance(event, ToolCalled), (text, events)
            if event.call.name == "get_weather":
                jsonschema.validate(json.loads(event.call.arguments), json.loads(WEATHER.parameters))
