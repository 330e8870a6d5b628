"""What OpenAI's own clients, and those of LangChain and LiteLLM, make of the server: over TCP and a Unix socket."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest
from api_server import serving

from chatcli import sockets
from chatcli.adapters.table import shipped
from chatcli.conversation import ToolCall
from chatcli.engines.concurrent import ConcurrentEngine, open_concurrent
from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import Finished, Progress, Reasoning, Text, TokenLogprob, ToolCalled
from chatcli.models.checkpoint import open_checkpoint
from chatcli.server.api.guard import Guard

KEY = "a-key-of-the-tests"
HELLO: Any = [{"role": "user", "content": "Hello there"}]
WEATHER = ToolCall("call_1", "weather", '{"city": "Beijing"}')
CALLING = [Text("Let me look."), ToolCalled(WEATHER), Finished("tool_calls", 20, 9)]
THINKING = [
    Progress("reading", 0, 9, "tokens"),
    Reasoning("Hm, "),
    Reasoning("yes."),
    Text("Yes."),
    Finished("stop", 9, 4, logprobs=(TokenLogprob(7, "Yes", -0.5, (TokenLogprob(8, "No", -1.0),)),)),
]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@dataclass(frozen=True)
class Door:
    """How clients come in: an address, and the transport that leads there."""

    address: str
    path: str = ""

    def sync(self, **options: Any) -> openai.OpenAI:
        client = httpx.Client(transport=httpx.HTTPTransport(uds=self.path)) if self.path else None
        return openai.OpenAI(base_url=f"{self.address}/v1", http_client=client, **{"api_key": KEY, **options})

    def asynchronous(self) -> openai.AsyncOpenAI:
        client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=self.path)) if self.path else None
        return openai.AsyncOpenAI(base_url=f"{self.address}/v1", http_client=client, api_key=KEY)


@pytest.fixture(scope="module")
def tiny(make_checkpoint: Callable[..., Path]) -> Iterator[ConcurrentEngine]:
    folder = make_checkpoint(max_position_embeddings=2048)
    engine = open_concurrent(open_checkpoint(folder, "tiny"), shipped(), lambda _: None)
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=["tcp", "unix"])
def door(
    request: pytest.FixtureRequest, tiny: ConcurrentEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    models = {"org/tiny": tiny, "calling": ScriptedEngine([CALLING]), "thinking": ScriptedEngine([THINKING])}
    if request.param == "tcp":
        with serving(models, Guard((KEY,), None)) as address:
            yield Door(address)
    else:
        path = tmp_path_factory.mktemp("sockets") / "api.sock"
        with serving(models, Guard((KEY,), None), listener=sockets.listen(path)) as address:
            yield Door(address, str(path))


def test_models(door: Door) -> None:
    client = door.sync()
    assert [model.id for model in client.models.list()] == ["org/tiny", "calling", "thinking"]
    assert client.models.retrieve("org/tiny").owned_by == "chatcli"


def test_a_stream_says_what_the_whole_answer_says(door: Door) -> None:
    client = door.sync()
    settings: Any = {"model": "org/tiny", "messages": HELLO, "max_tokens": 12, "temperature": 1, "seed": 5}
    whole = client.chat.completions.create(**settings)
    chunks = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert whole.usage and 0 < whole.usage.completion_tokens <= 12
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason in ("length", "stop")


def test_several_choices_with_a_seed_differ_and_come_again(door: Door) -> None:
    settings: Any = {"model": "org/tiny", "messages": HELLO, "max_tokens": 6, "n": 3, "seed": 1, "temperature": 1}
    first, again = (door.sync().chat.completions.create(**settings) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert len(set(texts)) == 3
    assert texts == [choice.message.content for choice in again.choices]
    alone = door.sync().chat.completions.create(**{**settings, "n": 1})
    assert first.usage and alone.usage and first.usage.prompt_tokens == alone.usage.prompt_tokens
    assert first.usage.completion_tokens > alone.usage.completion_tokens
    told: dict[int, str] = {}
    for chunk in door.sync().chat.completions.create(**settings, stream=True):
        for choice in chunk.choices:
            told[choice.index] = told.get(choice.index, "") + (choice.delta.content or "")
    assert [told[index] for index in range(3)] == texts


def test_parameters_beyond_the_official_ones(door: Door) -> None:
    greedy = door.sync().chat.completions.create(model="org/tiny", messages=HELLO, max_tokens=6, temperature=0)
    extra = {"top_k": 1, "min_p": 0.0, "repetition_penalty": 1.0}
    likeliest = door.sync().chat.completions.create(model="org/tiny", messages=HELLO, max_tokens=6, extra_body=extra)
    assert likeliest.choices[0].message.content == greedy.choices[0].message.content


def test_a_stop_string_ends_an_answer(door: Door) -> None:
    settings: Any = {"model": "org/tiny", "messages": HELLO, "max_tokens": 20, "temperature": 0}
    text = door.sync().chat.completions.create(**settings).choices[0].message.content or ""
    middle = text[5:8]
    stopped = door.sync().chat.completions.create(**settings, stop=[middle]).choices[0]
    assert stopped.message.content == text[: text.index(middle)]
    assert stopped.finish_reason == "stop"


def test_logprobs(door: Door) -> None:
    settings: Any = {"model": "org/tiny", "messages": HELLO, "max_tokens": 4, "temperature": 0}
    answer = door.sync().chat.completions.create(**settings, logprobs=True, top_logprobs=2)
    told = answer.choices[0].logprobs
    assert told and told.content and answer.usage and len(told.content) <= answer.usage.completion_tokens
    assert "".join(each.token for each in told.content).startswith(answer.choices[0].message.content or "nothing")
    assert all(each.top_logprobs[0].logprob >= each.top_logprobs[1].logprob for each in told.content)
    pieces: list[Any] = []
    for chunk in door.sync().chat.completions.create(**settings, logprobs=True, top_logprobs=2, stream=True):
        here = chunk.choices[0].logprobs
        tokens = "".join(each.token for each in here.content or ()) if here else ""
        assert tokens == (chunk.choices[0].delta.content or "")  # each piece comes with its own
        pieces += here.content or () if here else ()
    assert [each.token for each in pieces] == [each.token for each in told.content]
    assert [each.logprob for each in pieces] == pytest.approx([each.logprob for each in told.content], abs=1e-4)


def test_a_schema_is_followed(door: Door) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    answer = door.sync().chat.completions.create(
        model="org/tiny",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "number", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "") in ({"n": 1}, {"n": 2})


class Mood(pydantic.BaseModel):
    mood: Literal["good", "bad"]


def test_an_answer_is_parsed_into_a_class(door: Door) -> None:
    answer = door.sync().chat.completions.parse(model="org/tiny", messages=HELLO, response_format=Mood)
    assert answer.choices[0].message.parsed and answer.choices[0].message.parsed.mood in ("good", "bad")


def test_a_tool_is_called_and_answered(door: Door) -> None:
    client = door.sync()
    asked = client.chat.completions.create(model="calling", messages=HELLO, tools=TOOLS).choices[0]
    assert asked.finish_reason == "tool_calls" and asked.message.tool_calls
    call = asked.message.tool_calls[0]
    assert call.type == "function" and call.function.name == "weather" and call.id == "call_1"
    assert json.loads(call.function.arguments) == {"city": "Beijing"}
    messages: Any = [*HELLO, asked.message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    assert client.chat.completions.create(model="calling", messages=messages, tools=TOOLS).choices
    with client.chat.completions.stream(model="calling", messages=HELLO, tools=TOOLS) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.message.tool_calls and final.message.tool_calls[0].function.arguments == WEATHER.arguments
    assert final.message.content == "Let me look."


def test_a_real_model_calls_what_it_must_call(door: Door) -> None:
    """Random weights, held to a call; what the tool said then goes into the next prompt."""
    client = door.sync()
    city = {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]}
    function = {"name": "weather", "parameters": {**city, "additionalProperties": False}}
    settings: Any = {"model": "org/tiny", "tools": [{"type": "function", "function": function}], "max_tokens": 200}
    asked = client.chat.completions.create(
        messages=HELLO, tool_choice={"type": "function", "function": {"name": "weather"}}, **settings
    ).choices[0]
    assert asked.finish_reason == "tool_calls" and asked.message.tool_calls
    call: Any = asked.message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in ("Ulm", "Bonn")
    messages: Any = [*HELLO, asked.message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    plain = client.chat.completions.create(messages=messages, **settings)
    assert plain.usage and plain.usage.prompt_tokens > 20
    called: Any = None
    for chunk in client.chat.completions.create(messages=HELLO, tool_choice="required", stream=True, **settings):
        called = chunk.choices[0].delta.tool_calls or called
    assert called[0].function.name == "weather" and json.loads(called[0].function.arguments)["city"] in ("Ulm", "Bonn")


def test_bare_text_of_a_real_model(door: Door) -> None:
    settings: Any = {"model": "org/tiny", "max_tokens": 6, "temperature": 0}
    text = door.sync().completions.create(prompt="Hello there", **settings)
    assert text.choices[0].text and text.usage
    with pytest.raises(openai.BadRequestError):
        door.sync().completions.create(prompt=[10**9], **settings)


def test_what_a_model_thinks_comes_beside_its_answer(door: Door) -> None:
    answer = door.sync().chat.completions.create(model="thinking", messages=HELLO, reasoning_effort="high")
    message: Any = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm, yes.", "Yes.")
    chunks = list(door.sync().chat.completions.create(model="thinking", messages=HELLO, stream=True))
    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm, yes."
    assert chunks[-1].choices[0].logprobs and chunks[-1].choices[0].logprobs.content


def test_completions_of_bare_text(door: Door) -> None:
    answer = door.sync().completions.create(model="thinking", prompt=["One", "Two"], n=2, logprobs=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (18, 16)
    assert answer.choices[0].logprobs and answer.choices[0].logprobs.top_logprobs == [{"No": -1.0}]
    chunks = list(door.sync().completions.create(model="thinking", prompt=[5, 6], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hm, yes.Yes."
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings(door: Door) -> None:
    found = door.sync().embeddings.create(model="org/tiny", input=["Hello there", "你好"])
    plain = door.sync().embeddings.create(model="org/tiny", input="Hello there", encoding_format="float")
    assert len(found.data) == 2 and len(found.data[0].embedding) == 32
    assert found.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert sum(value * value for value in found.data[1].embedding) == pytest.approx(1, abs=1e-5)
    assert plain.usage.prompt_tokens > 0
    assert door.sync().embeddings.create(model="org/tiny", input="Hello", dimensions=32).data
    cut = door.sync().embeddings.create(model="org/tiny", input="Hello there", dimensions=8).data[0].embedding
    length = math.hypot(*plain.data[0].embedding[:8])
    assert cut == pytest.approx([value / length for value in plain.data[0].embedding[:8]], abs=1e-6)
    with pytest.raises(openai.BadRequestError, match="32 dimensions"):
        door.sync().embeddings.create(model="org/tiny", input="Hello", dimensions=64)


def test_errors_are_those_of_the_api(door: Door) -> None:
    client = door.sync(max_retries=0)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="another", messages=HELLO)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="org/tiny", messages=HELLO, temperature=9)
    assert wrong.value.param == "temperature" and wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="org/tiny", messages=[{"role": "user", "content": "Hello there " * 1500}])
    assert long.value.code == "context_length_exceeded" and "2048 tokens" in long.value.message
    with pytest.raises(openai.BadRequestError):
        list(
            client.chat.completions.create(
                model="org/tiny", messages=[{"role": "user", "content": "x " * 2500}], stream=True
            )
        )
    with pytest.raises(openai.AuthenticationError) as stranger:
        door.sync(api_key="another").models.list()
    assert stranger.value.code == "invalid_api_key"


def test_the_asynchronous_client(door: Door) -> None:
    async def ask() -> tuple[list[str], str]:
        async with door.asynchronous() as client:
            asked = [client.chat.completions.create(model="org/tiny", messages=HELLO, max_tokens=5) for _ in range(4)]
            texts = [answer.choices[0].message.content or "" for answer in await asyncio.gather(*asked)]
            stream = await client.chat.completions.create(model="thinking", messages=HELLO, stream=True)
            return texts, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    texts, streamed = asyncio.run(ask())
    assert len(texts) == 4 and all(texts) and streamed == "Yes."


def test_langchain(door: Door) -> None:
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    client = httpx.Client(transport=httpx.HTTPTransport(uds=door.path)) if door.path else None
    options: Any = {"base_url": f"{door.address}/v1", "api_key": KEY, "http_client": client}
    chat = ChatOpenAI(model="org/tiny", max_completion_tokens=6, temperature=0, **options)
    answer = chat.invoke([HumanMessage("Hello there")])
    assert "".join(str(chunk.content) for chunk in chat.stream([HumanMessage("Hello there")])) == answer.content != ""
    assert answer.usage_metadata and 0 < answer.usage_metadata["output_tokens"] <= 6
    called = ChatOpenAI(model="calling", **options).bind_tools(TOOLS).invoke("Hello there")
    assert called.tool_calls[0]["args"] == {"city": "Beijing"}
    embeddings = OpenAIEmbeddings(model="org/tiny", check_embedding_ctx_length=False, **options)
    vectors = embeddings.embed_documents(["a", "b"])
    assert [len(vector) for vector in vectors] == [32, 32]


@pytest.mark.slow
def test_litellm(door: Door) -> None:
    import litellm

    options: Any = {"api_base": f"{door.address}/v1", "api_key": KEY, "client": door.sync()}
    answer = litellm.completion(model="openai/org/tiny", messages=HELLO, max_tokens=6, temperature=0, **options)
    stream = litellm.completion(
        model="openai/org/tiny", messages=HELLO, max_tokens=6, temperature=0, stream=True, **options
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == answer.choices[0].message.content != ""
    called = litellm.completion(model="openai/calling", messages=HELLO, tools=TOOLS, **options)
    assert called.choices[0].message.tool_calls[0].function.name == "weather"
