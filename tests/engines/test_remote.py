"""A server as the engine, with a real server that fails in all the ways in which servers do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing

import pytest
from faulty_server import FaultyServer, Handler, Reply, chunk, ending, endless, garbage, serving, silent, status, stream

from chatcli import errors
from chatcli.conversation import Attachment, Conversation, Message
from chatcli.engines.reach import look, open_remote
from chatcli.engines.refusal import retry_after
from chatcli.engines.remote import RemoteEngine, Tries
from chatcli.exchange import Head, Patience
from chatcli.generation import Constraint, Event, Finished, GenerationSettings, Progress, Reasoning, Text, ToolCalled
from chatcli.openai.kinds import kind_named
from chatcli.servers.address import parse_address
from chatcli.servers.profiles import Server

ASKED = Conversation((Message("system", "Be brief."), Message("user", "Is it?")))
YES = stream(chunk(role="assistant", content=""), chunk(content="Yes"), chunk(content="."), ending())
SECRET = "sk-very-secret-key"
QUICK = Tries(most=3, refused=2, pause=0.01)


def engine(
    server: FaultyServer, kind: str = "other", *, key: str = "", tries: Tries = QUICK, patience: Patience | None = None
) -> RemoteEngine:
    profile = Server("home", parse_address(server.url))
    return RemoteEngine(profile, kind_named(kind), "m", lambda: key, tries=tries, patience=patience)


def answered(
    made: RemoteEngine, settings: GenerationSettings | None = None, asked: Conversation = ASKED
) -> tuple[str, Finished, list[str]]:
    """The text, the end and the notes of an answer."""
    events = list(made.stream(asked, settings or GenerationSettings()))
    assert isinstance(events[-1], Finished)
    notes = [event.note for event in events if isinstance(event, Progress) and event.note]
    return "".join(event.text for event in events if isinstance(event, Text)), events[-1], notes


def test_an_answer_with_its_counts() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    with serving(stream(chunk(reasoning="Hm."), chunk(content="\n\nYes"), ending(usage=usage))) as server:
        text, finished, notes = answered(engine(server, "vllm"), GenerationSettings(top_k=4, max_new_tokens=5, seed=1))
        path, headers, body = server.got[0]
    assert (text, notes) == ("Yes", [])
    assert (finished.reason, finished.prompt_tokens, finished.completion_tokens) == ("stop", 9, 2)
    assert finished.cached_tokens == 4
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    assert (body["model"], body["top_k"], body["max_tokens"], body["seed"]) == ("m", 4, 5, 1)
    assert "temperature" not in body  # the server's own holds


def test_where_the_server_counts_nothing_its_pieces_are_counted() -> None:
    with serving(YES) as server:
        assert answered(engine(server))[1].completion_tokens == 2


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(code: int) -> None:
    with serving(status(code, {"error": "later"}), YES) as server:
        text, _, notes = answered(engine(server))
        assert len(server.asked) == 2
    assert text == "Yes."
    assert len(notes) == 1 and f"({code}); asking again in" in notes[0]


def test_the_server_says_how_long_to_leave_it_alone() -> None:
    with serving(status(429, "wait", Retry_After="0.2"), YES) as server:
        begun = time.monotonic()
        assert answered(engine(server))[0] == "Yes."
        assert time.monotonic() - begun >= 0.2
    with (
        serving(status(429, {"error": {"message": "quota"}}, Retry_After="3600")) as server,
        pytest.raises(errors.EngineError, match=r"left alone for 3600 seconds: quota\."),
    ):
        answered(engine(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("wait", ["nan", "-1", "Mon, 99999999999999999999 Dec 2020 00:00:00 GMT", "soon"])
def test_a_pause_that_means_nothing_is_none(wait: str) -> None:
    assert retry_after(Head(429, {"retry-after": wait})) == 0.0


def test_it_is_given_up_after_some_tries() -> None:
    with (
        serving(status(503, {"error": {"message": "Loading model"}})) as server,
        pytest.raises(errors.EngineError, match="503: Loading model"),
    ):
        answered(engine(server))
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("code", "error", "exit_code"),
    [
        (400, errors.UsageError, 2),
        (401, errors.ModelGated, 3),
        (403, errors.ModelGated, 3),
        (404, errors.ModelNotFound, 3),
        (413, errors.UsageError, 2),
        (302, errors.UsageError, 2),
    ],
)
def test_other_statuses_are_errors_in_one_sentence(code: int, error: type[Exception], exit_code: int) -> None:
    words = {"error": {"message": f"Something about\n{SECRET}\x1b[31m."}}
    with serving(status(code, words, Location=f"http://evil.example/{SECRET}")) as server, pytest.raises(error) as seen:
        answered(engine(server, key=SECRET))
    assert len(server.asked) == 1  # a redirection is not followed: the key is for this server alone
    assert server.got[0][1]["Authorization"] == f"Bearer {SECRET}"
    told = str(seen.value)
    assert SECRET not in told and "\x1b" not in told and "\n" not in told
    assert told.startswith("home ") and told.endswith(".")
    assert isinstance(seen.value, errors.ChatcliError) and seen.value.exit_code == exit_code


def test_a_page_for_a_browser_is_not_read_out() -> None:
    with (
        serving(status(400, "<html><body>nginx</body></html>")) as server,
        pytest.raises(errors.UsageError, match=r"^home does not take the request \(400\)\.$"),
    ):
        answered(engine(server))


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "Unsupported parameter: 'seed' is not supported with this model.", "param": "seed"}},
        {"detail": "Unexpected fields in the request: {'seed'}"},
        {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        {"error": "unknown field `seed`, expected one of `model`"},
    ],
)
def test_a_parameter_that_is_refused_is_left_out_and_told(said: object) -> None:
    with serving(status(422 if "detail" in str(said) else 400, said), YES) as server:
        made = engine(server, "openai")
        settings = GenerationSettings(seed=5, temperature=0.5)
        text, _, notes = answered(made, settings)
        assert answered(made, settings)[2] == []  # it is remembered
        assert [sorted(body) for body in server.asked[1:]] == [sorted({*server.asked[0]} - {"seed"})] * 2
    assert text == "Yes."
    assert notes == ["home does not take seed; asking again without."]


def test_what_an_answer_is_held_to_is_never_left_out() -> None:
    refused = status(400, {"error": {"message": "Unknown parameter: response_format", "param": "response_format"}})
    settings = GenerationSettings(constraint=Constraint("schema", '{"type": "object"}'))
    with serving(refused) as server, pytest.raises(errors.UsageError, match="response_format"):
        answered(engine(server, "openai"), settings)
    assert len(server.asked) == 1


def test_a_setting_that_this_kind_has_no_place_for_is_told_once() -> None:
    with serving(YES) as server:
        made = engine(server, "tgi")
        settings = GenerationSettings(top_k=4, min_p=0.1, seed=1)
        assert answered(made, settings)[2] == [
            "home is Text Generation Inference and has no top_k and min_p: left out."
        ]
        assert answered(made, settings)[2] == []


def test_a_talk_that_is_too_long_loses_its_oldest_exchanges() -> None:
    long = Conversation(
        (Message("system", "Be brief."), *[Message("user", "q"), Message("assistant", "a")] * 3, Message("user", "z"))
    )
    said = {
        "error": {
            "message": "request (900 tokens) exceeds the available context size",
            "type": "exceed_context_size_error",
        }
    }
    with serving(status(400, said), status(400, said), YES) as server:
        text, _, notes = answered(engine(server), asked=long)
        assert [len(body["messages"]) for body in server.asked] == [8, 6, 4]
        assert server.asked[2]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert text == "Yes." and len(notes) == 2
    for asked, overflow in ((ASKED, None), (long, "stop")):
        with serving(status(400, said)) as server, pytest.raises(errors.ContextOverflow):
            answered(engine(server), GenerationSettings(overflow=overflow), asked)  # type: ignore[arg-type]
        assert len(server.asked) == 1


@pytest.mark.parametrize("pieces", range(4))
def test_a_stream_that_is_cut_is_asked_for_again_until_something_was_shown(pieces: int) -> None:
    """What was shown stays; an end is never made up."""
    begun = [chunk(role="assistant"), chunk(content="One"), chunk(content=" two")][:pieces]
    with serving(stream(*begun, cut=True), YES) as server:
        events: list[Event] = []
        stream_of = engine(server).stream(ASKED, GenerationSettings())
        if pieces < 2:
            events += stream_of
            assert isinstance(events[-1], Finished)
            assert len(server.asked) == 2
            return
        with pytest.raises(errors.EngineError, match="is kept"):
            for event in stream_of:
                events.append(event)
        assert [event.text for event in events if isinstance(event, Text)] == ["One", " two"][: pieces - 1]
        assert not any(isinstance(event, Finished) for event in events)
        assert len(server.asked) == 1


def test_a_stream_without_done_and_one_without_a_reason_are_whole() -> None:
    with serving(stream(chunk(content="Yes"), ending().partition(b"data: [DONE]")[0])) as server:
        assert answered(engine(server))[1].reason == "stop"
    with serving(stream(chunk(content="Yes"), b"data: [DONE]\n\n")) as server:
        assert answered(engine(server))[1].reason == "stop"


def test_an_error_in_the_middle_of_the_stream() -> None:
    failing = stream(chunk(content="One"), b'data: {"error": {"message": "CUDA out of memory"}}\n\n')
    with serving(failing) as server, pytest.raises(errors.EngineError) as seen:
        answered(engine(server))
    assert str(seen.value) == "home failed: CUDA out of memory; what it said until then is kept."


def test_a_line_without_end_is_given_up() -> None:
    with serving(stream(b"data: ", *[b"x" * (1 << 20)] * 10)) as server, pytest.raises(errors.EngineError, match="end"):
        answered(engine(server))


def test_an_answer_that_is_no_stream() -> None:
    whole = status(200, {"choices": [{"message": {"content": "Yes."}, "finish_reason": "length"}]})
    with serving(whole) as server:
        text, finished, _ = answered(engine(server))
    assert (text, finished.reason) == ("Yes.", "length")


@pytest.mark.parametrize(
    ("reply", "patience", "words"),
    [(garbage, Patience(), "does not speak HTTP"), (silent, Patience(first=0.2), "says nothing in")],
)
def test_what_is_no_answer_at_all(reply: Reply, patience: Patience, words: str) -> None:
    with serving(reply) as server, pytest.raises(errors.ChatcliError, match=words):
        answered(engine(server, patience=patience))


def test_silence_between_two_words_ends_an_answer() -> None:
    slow = stream(chunk(content="One"), 60.0, chunk(content="two"), ending())
    with serving(slow) as server, pytest.raises(errors.EngineError, match="says nothing in time; what it said"):
        answered(engine(server, patience=Patience(between=0.2)))


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = Server("home", parse_address(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    made = RemoteEngine(server, kind_named("other"), "m", str, tries=QUICK)
    with pytest.raises(errors.ModelUnreachable, match=r"home is not there: nobody listens at 127\.0\.0\.1:"):
        answered(made)


def test_leaving_closes_the_connection_at_once() -> None:
    for reply in (endless, silent):
        with serving(reply) as server:
            with closing(engine(server).stream(ASKED, GenerationSettings())) as events:
                for event in events:
                    if isinstance(event, Text) or (reply is silent and server.asked):
                        break
            assert server.left.wait(), reply


def test_there_is_a_sign_of_life_while_a_server_thinks() -> None:
    with serving(stream(0.3, chunk(content="Yes"), ending())) as server:
        events = list(engine(server).stream(ASKED, GenerationSettings()))
    assert events.count(Progress("waiting for home")) >= 2


def test_pictures_thoughts_and_a_reply_that_is_begun() -> None:
    picture = Attachment("p.png", 3, media="image/png", data=b"png")
    talk = Conversation(
        (Message("user", "What?", attachments=(picture,)), Message("assistant", "It is", reasoning="Hm."))
    )
    with serving(YES) as server:
        answered(engine(server, "vllm"), asked=talk)
        body = server.asked[0]
        with pytest.raises(errors.UsageError, match="cannot go on with a reply"):
            answered(engine(server, "openai"), asked=talk)
    assert body["messages"] == [
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
            {"type": "text", "text": "What?"},
        ]},
        {"role": "assistant", "content": "It is"},
    ]  # fmt: skip
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


@pytest.mark.parametrize(
    ("models", "said", "words"),
    [
        ([{"id": "one"}], "", None),
        ([{"id": "a"}, {"id": "b"}], "b", None),
        ([{"name": "no id"}, {"id": "one"}], "", None),
        ([{"id": "\x1b[2Jone"}], "", None),
        ([{"id": "a"}, {"id": "b"}], "", 'has 2 models: a, b; name one, as in "a @ '),
        ([], "", "does not say which models"),
    ],
)
def test_the_only_model_is_taken_else_they_are_listed(
    models: Sequence[dict[str, str]], said: str, words: str | None
) -> None:
    with serving(YES, models=models) as server:
        profile = Server("home", parse_address(server.url))
        if words:
            with pytest.raises(errors.ModelNotFound, match=words):
                open_remote(profile, said, {}, lambda _: None)
            return
        made = open_remote(profile, said, {}, lambda _: None)
        assert made.facts.model in ("one @ home", "b @ home", "\ufffd[2Jone @ home")  # no control characters
        assert answered(made)[0] == "Yes."


def test_a_server_that_loads_its_model_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatcli.engines import reach

    monkeypatch.setattr(reach, "LOADING_PAUSE", 0.01)
    with serving() as server:
        listing, left = server.pages["/v1/models"], [503, 503]

        def loading(handler: Handler) -> None:
            (status(left.pop(), {"error": {"message": "Loading model"}}) if left else status(200, listing))(handler)

        server.pages["/v1/models"] = loading
        told: list[Progress] = []
        assert look(Server("home", parse_address(server.url)), {}, told.append).models == ("m",)
    assert told == [Progress("waiting for home")] * 2


@pytest.mark.parametrize(
    ("models", "pages", "kind", "context"),
    [
        ([{"id": "m", "owned_by": "vllm", "max_model_len": 4096}], {}, "vllm", 4096),
        ([{"id": "m", "owned_by": "sglang"}], {}, "sglang", 0),
        ([{"id": "m", "owned_by": "fastchat"}], {}, "fastchat", 0),
        ([{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx": 256, "n_ctx_train": 512}}], {}, "llama.cpp", 256),
        ([{"id": "m", "owned_by": "org", "status": {"value": "loaded"}}], {}, "transformers", 0),
        ([{"id": "m", "owned_by": "library"}], {"/api/version": {"version": "0.20.1"}}, "ollama", 0),
        ([{"id": "m", "owned_by": "m"}], {"/info": {"model_id": "m", "max_total_tokens": 2048}}, "tgi", 0),
        ([{"id": "m", "owned_by": "chatcli", "max_model_len": 512}], {}, "chatcli", 512),
        ([{"id": "m", "owned_by": "somebody"}], {"/info": "hello"}, "other", 0),
    ],
)
def test_kinds_are_told_by_what_they_say_of_themselves(
    models: Sequence[dict[str, object]], pages: dict[str, object], kind: str, context: int
) -> None:
    with serving(models=models) as server:
        server.pages.update(pages)
        found = look(Server("home", parse_address(server.url)), {})
        assert (found.kind.name, found.context("m")) == (kind, context)
        assert len(server.got) == (1 if kind not in ("ollama", "tgi", "other") else len(server.got))


def test_what_the_profile_says_is_not_asked() -> None:
    with serving() as server:
        made = open_remote(Server("home", parse_address(server.url), "m", "vllm"), "", {}, lambda _: None)
        assert server.got == []
        assert made.facts.device == "vLLM"


def test_many_questions_some_at_a_time_and_one_that_fails() -> None:
    with serving(stream(0.1, chunk(content="Yes"), ending())) as server:
        asked = [(Conversation((Message("user", str(n)),)), GenerationSettings()) for n in range(12)]
        asked[3] = (asked[3][0], GenerationSettings(constraint=Constraint("regex", "a+")))
        answers = {answer.index: answer for answer in engine(server).answer_together(asked)}
    assert sorted(answers) == list(range(12))
    assert [index for index, answer in answers.items() if answer.error] == [3]
    assert {answer.message.text for index, answer in answers.items() if index != 3} == {"Yes"}
    assert {body["messages"][0]["content"] for body in server.asked} == {str(n) for n in range(12) if n != 3}


def test_leaving_many_questions_leaves_all_their_connections() -> None:
    with serving(YES, endless) as server:
        answers = engine(server).answer_together([(ASKED, GenerationSettings())] * 5)
        assert next(answers).message.text == "Yes."
        answers.close()
        assert server.left.wait()


def test_the_thoughts_of_a_model_are_no_text() -> None:
    with serving(stream(chunk(content="<think>Hm.</think>Yes."), ending())) as server:
        events = list(engine(server).stream(ASKED, GenerationSettings()))
    assert [each for each in events if isinstance(each, Reasoning | Text)] == [Reasoning("Hm."), Text("Yes.")]


def test_an_answer_that_was_to_conform_and_does_not_is_an_error() -> None:
    """Servers take no notice of parameters that they do not know."""
    for kind, text, said in (("choice", '["yes", "no"]', "Yes"), ("regex", "[0-9]+", "12a"), ("schema", "{}", "12a")):
        constraint = Constraint(kind, text)  # type: ignore[arg-type]
        settings = GenerationSettings(constraint=constraint)
        with serving(stream(chunk(content=said), ending())) as server:
            with pytest.raises(errors.EngineError, match=f"does not hold the answer to --{kind}; what it said"):
                answered(engine(server, "vllm"), settings)
            server.replies = [stream(chunk(content=said), ending("length"))]
            assert answered(engine(server, "vllm"), settings)[1].reason == "length"
        fine = {"choice": "no", "regex": "12", "schema": ' {"b": 1,\n "a": "\u00e9"}'}[kind]
        with serving(stream(chunk(content=fine), ending())) as server:
            assert answered(engine(server, "vllm"), settings)[0] == fine


def test_a_call_of_a_tool_need_not_conform() -> None:
    settings = GenerationSettings(constraint=Constraint("schema", '{"type": "object"}'))
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    with serving(stream(chunk(tool_calls=[call]), ending("tool_calls"))) as server:
        events = list(engine(server, "vllm").stream(ASKED, settings))
    assert [type(each) for each in events if not isinstance(each, Progress)] == [ToolCalled, Finished]


@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
def test_what_was_said_before_a_failure_that_came_with_it_is_shown(end: bytes) -> None:
    """It was lost where both were read at once, and a last event without its end was no sentence but a traceback."""
    told: list[Event] = []
    with (
        serving(stream(chunk(content="One") + b'data: {"error": {"message": "out of memory"}}' + end)) as server,
        pytest.raises(errors.EngineError, match=r"home failed: out of memory; what it said until then is kept\.$"),
    ):
        for event in engine(server).stream(ASKED, GenerationSettings()):
            told.append(event)
    assert [each for each in told if isinstance(each, Text)] == [Text("One")]


def test_thoughts_that_begin_without_a_word_are_told_apart_where_the_profile_says_so() -> None:
    begins = stream(chunk(content="Hm."), chunk(content="</think>\n\nYes."), ending())
    with serving(begins) as server:
        thinking = Server("home", parse_address(server.url), "m", "vllm", thinks=True)
        events = list(open_remote(thinking, "", {}, lambda _: None).stream(ASKED, GenerationSettings()))
        assert [each for each in events if isinstance(each, Reasoning | Text)] == [Reasoning("Hm."), Text("Yes.")]
        server.replies = [stream(chunk(reasoning="Hm."), chunk(content="Yes."), ending())]
        events = list(open_remote(thinking, "", {}, lambda _: None).stream(ASKED, GenerationSettings()))
        assert [each for each in events if isinstance(each, Reasoning | Text)] == [Reasoning("Hm."), Text("Yes.")]
        server.replies = [YES]
        quick = open_remote(thinking, "", {}, lambda _: None).stream(ASKED, GenerationSettings(think=False))
        assert [each for each in quick if isinstance(each, Reasoning | Text)] == [Text("Yes"), Text(".")]


def test_notes_of_a_batch_are_told_once() -> None:
    with serving(YES) as server:
        asked = [(ASKED, GenerationSettings(top_k=3))] * 4
        notes = [note for answer in engine(server, "tgi").answer_together(asked) for note in answer.notes]
    assert notes == ["home is Text Generation Inference and has no top_k: left out."]


def test_what_one_question_of_a_batch_finds_out_the_others_know() -> None:
    refused = status(400, {"error": {"message": "Unknown parameter: 'seed'.", "param": "seed"}})

    def reply(handler: Handler) -> None:
        (refused if "seed" in handler.server.asked[-1] else YES)(handler)

    with serving(YES) as server:
        server.replies = [reply]
        asked = [(ASKED, GenerationSettings(seed=3))] * 20
        made = engine(server, "openai")
        first = list(made.answer_together(asked[:1]))
        answers = [*first, *made.answer_together(asked)]
        assert all(answer.message.text == "Yes." for answer in answers)
        assert [note for answer in answers for note in answer.notes] == [
            "home does not take seed; asking again without."
        ]
        assert len(server.asked) == 22


@pytest.mark.parametrize("at", range(1, 120, 7))
def test_wherever_the_bytes_end_what_came_is_shown_and_no_end_is_made_up(at: int) -> None:
    """Without chunks, as a proxy of HTTP/1.0 sends it, the end of a connection looks like the end of an answer."""
    whole = (
        chunk(content="One") + chunk(content=" two <thi") + chunk(tool_calls=[{"id": "1", "function": {"name": "f"}}])
    )

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(whole[:at])
        handler.close_connection = True

    told: list[Event] = []
    with serving(reply) as server, pytest.raises(errors.EngineError, match="closed the connection before"):
        for event in engine(server).stream(ASKED, GenerationSettings()):
            told.append(event)
    text = "".join(event.text for event in told if isinstance(event, Text))
    first, second = len(chunk(content="One")) - 2, len(chunk(content="One") + chunk(content=" two <thi")) - 2
    assert text == "One" * (at >= first) + " two <thi" * (at >= second)
    assert not [event for event in told if not isinstance(event, Text | Progress)]


def test_a_page_for_a_browser_is_a_wrong_url() -> None:
    def page(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Content-Length", "6")
        handler.end_headers()
        handler.wfile.write(b"<html>")

    with serving(page) as server:
        with pytest.raises(errors.UsageError, match="page for a browser"):
            answered(engine(server))
        server.pages["/v1/models"] = page
        with pytest.raises(errors.UsageError, match="not where its API is"):
            look(Server("home", parse_address(server.url)), {})


def test_a_server_that_refuses_all_ends_a_batch_and_what_came_before_is_there() -> None:
    come = threading.Event()
    replies = iter([status(401, {"error": {"message": "expired"}})])

    def refused(handler: Handler) -> None:
        come.wait()
        next(replies, silent)(handler)  # or all were asked before the first is heard

    with serving(YES, refused) as server:
        answers = engine(server, key="k").answer_together([(ASKED, GenerationSettings())] * 200)
        assert next(answers).message.text == "Yes."
        come.set()
        with pytest.raises(errors.ModelGated, match="expired"):
            list(answers)
        assert len(server.asked) < 200


def test_the_limit_of_an_answer_has_two_names() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    refused = status(400, {"error": {"message": words, "param": "max_tokens", "code": "unsupported_parameter"}})
    with serving(refused, YES) as server:
        assert answered(engine(server), GenerationSettings(max_new_tokens=7))[0] == "Yes."
        assert server.asked[1]["max_completion_tokens"] == 7 and "max_tokens" not in server.asked[1]
