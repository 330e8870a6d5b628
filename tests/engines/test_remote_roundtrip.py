"""What an engine says is what comes back through our own server, over TCP and a Unix socket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing

import pytest
from api_server import serving, soon
from PIL import Image

from chatcli import sockets
from chatcli.conversation import Attachment, Conversation, Message, Tool, ToolCall
from chatcli.engines.reach import look, open_remote
from chatcli.engines.remote import RemoteEngine
from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import EngineError, ModelGated, ModelNotFound
from chatcli.generation import (
    Event,
    Finished,
    GenerationSettings,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCalled,
)
from chatcli.server.api.guard import Guard
from chatcli.servers.address import parse_address
from chatcli.servers.profiles import Server

KEY = "a-key-of-the-tests"
ASKED = Conversation((Message("system", "Be brief."), Message("user", "你好 👋🏽")))
WEATHER = Tool("weather", "The weather of a city.", '{"type": "object"}')
SCRIPTS: dict[str, list[Event | BaseException]] = {
    "plain": [Text("Hé"), Text("llo\n\n<think>"), Text(" 你好"), Finished("length", 20, 9, 4)],
    "thinking": [
        Reasoning("Hm, "),
        Reasoning("yes."),
        Text("Yes."),
        Finished("stop", 9, 4, logprobs=(TokenLogprob(7, "Yes", -0.5, (TokenLogprob(8, "No", -1.0),)),)),
    ],
    "calling": [
        Text("Let me look."),
        ToolCalled(ToolCall("call_1", "weather", '{"city": "Oslo"}')),
        ToolCalled(ToolCall("call_2", "weather", "{}")),
        Finished("tool_calls", 20, 9),
    ],
    "failing": [Text("Half"), EngineError("The model fell over.")],
}


@pytest.fixture(scope="module", params=["tcp", "unix"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = {name: ScriptedEngine([script]) for name, script in SCRIPTS.items()}
    path = tmp_path_factory.mktemp("door") / "api.sock"
    listener = sockets.listen(path) if request.param == "unix" else None
    with serving(models, Guard((KEY,), None), listener=listener) as address:
        yield Server("ours", parse_address(f"unix:{path}" if listener else address), key_from="OURS")


def opened(door: Server, model: str) -> RemoteEngine:
    return open_remote(door, model, {"OURS": KEY}, lambda _: None)


@pytest.mark.parametrize("name", ["plain", "thinking", "calling"])
def test_events_come_back_as_they_were(door: Server, name: str) -> None:
    settings = GenerationSettings(
        top_logprobs=1 if name == "thinking" else None, seed=1, top_k=4, min_p=0.1, think=True
    )
    asked = ASKED if name != "calling" else Conversation(ASKED.messages, (WEATHER,), "required")
    events = [event for event in opened(door, name).stream(asked, settings) if not isinstance(event, Progress)]
    script = SCRIPTS[name]
    for kind in (Text, Reasoning):
        said = "".join(event.text for event in script if isinstance(event, kind))
        assert "".join(event.text for event in events if isinstance(event, kind)) == said
    assert [each for each in events if isinstance(each, ToolCalled)] == [
        each for each in script if isinstance(each, ToolCalled)
    ]
    end, there = events[-1], script[-1]
    assert isinstance(end, Finished) and isinstance(there, Finished)
    assert (end.reason, end.prompt_tokens, end.completion_tokens, end.cached_tokens) == (
        there.reason, there.prompt_tokens, there.completion_tokens, there.cached_tokens,
    )  # fmt: skip
    assert [(each.text, each.logprob) for each in end.logprobs] == [
        (each.text, each.logprob) for each in there.logprobs
    ]


def test_it_is_known_and_lists_its_models(door: Server) -> None:
    found = look(door, {"OURS": KEY})
    assert (found.kind.name, sorted(found.models)) == ("chatcli", sorted(SCRIPTS))


def test_the_conversation_arrives_as_it_was() -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (2, 2)).save(drawn, "PNG")
    picture = Attachment("p.png", 4, media="image/png", data=drawn.getvalue())
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}')
    talk = Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "What is this?", attachments=(picture,)),
            Message("assistant", "", calls=(call,)),
            Message("tool", "Rain.", call="call_1"),
        ),
        (WEATHER,),
    )
    there = ScriptedEngine(["Yes."])
    with serving({"m": there}) as address:
        engine = open_remote(Server("ours", parse_address(address)), "", {}, lambda _: None)
        list(engine.stream(talk, GenerationSettings()))
    (asked,) = there.asked
    assert [(each.role, each.text, each.calls, each.call) for each in asked.messages] == [
        (each.role, each.text, each.calls, each.call) for each in talk.messages
    ]
    assert [each.data for each in asked.images] == [picture.data]
    assert asked.tools == (WEATHER,)


def test_an_engine_that_fails_there_fails_here_and_what_it_said_is_kept(door: Server) -> None:
    told: list[str] = []
    with pytest.raises(EngineError, match="is kept"):
        for event in opened(door, "failing").stream(ASKED, GenerationSettings()):
            if isinstance(event, Text):
                told.append(event.text)
    assert told == ["Half"]


def test_a_wrong_key_and_a_wrong_model(door: Server) -> None:
    with pytest.raises(ModelGated, match="refuses the key from OURS"):
        open_remote(door, "plain", {"OURS": "another"}, lambda _: None)
    with pytest.raises(ModelNotFound, match="has no model other"):
        list(opened(door, "other").stream(ASKED, GenerationSettings()))


def test_leaving_ends_the_engine_there() -> None:
    there = ScriptedEngine(["word " * 500], seconds_per_piece=0.01)
    with serving({"m": there}) as address:
        engine = open_remote(Server("ours", parse_address(address)), "", {}, lambda _: None)
        with closing(engine.stream(ASKED, GenerationSettings())) as events:
            assert any(isinstance(event, Text) for event in events)
        assert soon(lambda: there.cancelled == 1)


def test_a_reply_that_is_begun_is_gone_on_with() -> None:
    with serving({"m": ScriptedEngine(["Yes, it is."])}) as address:
        engine = open_remote(Server("ours", parse_address(address)), "", {}, lambda _: None)
        begun = ASKED.add(Message("assistant", "Yes, "))
        events = list(engine.stream(begun, GenerationSettings()))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "it is."
