"""Live servers of others on a tiny model: llama.cpp's, and transformers serve."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import xllamacpp
from chat_formats import CHATML
from gguf_files import write_gguf

from chatcli.conversation import Conversation, Message
from chatcli.engines.reach import look, open_remote
from chatcli.errors import ContextOverflow, ModelError, UsageError
from chatcli.generation import Constraint, Finished, GenerationSettings, Progress, Text
from chatcli.servers.address import parse_address
from chatcli.servers.profiles import Server

pytestmark = pytest.mark.slow

ASKED = Conversation((Message("user", "Hello there, how are you?"),))
GREEDY = GenerationSettings(temperature=0, max_new_tokens=8, seed=1)


@pytest.fixture(scope="module")
def llama_cpp(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """llama.cpp's server with the tiny Llama, its context 256 tokens."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(
        write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_llama, "llama", template=CHATML)
    )
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 512, 2, False
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.cpuparams.n_threads = 1
    running = xllamacpp.Server(parameters)
    yield Server("llama", parse_address(running.listening_address))
    del running


@pytest.fixture(scope="module")
def transformers_serve(tiny_llama: Path) -> Iterator[Server]:
    """`transformers serve` for the tiny Llama, in a thread of this process."""
    from transformers.cli.serve import Serve
    from transformers.utils import logging

    level = logging.get_verbosity()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Serve(str(tiny_llama), host="127.0.0.1", port=port, device="cpu", non_blocking=True, log_level="error")
    yield Server("served", parse_address(f"http://127.0.0.1:{port}"))
    running.kill_server()
    logging.set_verbosity(level)


def said(server: Server, settings: GenerationSettings, asked: Conversation = ASKED) -> tuple[str, Finished, list[str]]:
    engine = open_remote(server, "", {}, lambda _: None)
    events = list(engine.stream(asked, settings))
    assert isinstance(events[-1], Finished)
    notes = [event.note for event in events if isinstance(event, Progress) and event.note]
    return "".join(event.text for event in events if isinstance(event, Text)), events[-1], notes


def test_llama_cpp_is_known_and_tells_its_context(llama_cpp: Server) -> None:
    found = look(llama_cpp, {})
    assert found.kind.name == "llama.cpp"
    assert found.context(found.models[0]) == 256


def test_llama_cpp_says_what_the_model_says_here(llama_cpp: Server, tiny_llama: Path) -> None:
    from chatcli.adapters.table import load_table
    from chatcli.engines.local import open_local
    from chatcli.models.checkpoint import open_checkpoint

    with closing(open_local(open_checkpoint(tiny_llama), load_table(tiny_llama), lambda _: None)) as local:
        here = [event for event in local.stream(ASKED, GREEDY) if isinstance(event, Text | Finished)]
    text, finished, notes = said(llama_cpp, GREEDY)
    assert text == "".join(event.text for event in here if isinstance(event, Text))
    assert isinstance(here[-1], Finished)
    assert (finished.reason, finished.prompt_tokens) == (here[-1].reason, here[-1].prompt_tokens)
    assert notes == []


def test_llama_cpp_takes_every_setting_of_its_row(llama_cpp: Server) -> None:
    everything = GenerationSettings(
        temperature=0.9, top_p=0.9, top_k=20, min_p=0.05, repetition_penalty=1.1, max_new_tokens=6, seed=7,
        stop=("zzz",), think=False, top_logprobs=2,
    )  # fmt: skip
    text, finished, notes = said(llama_cpp, everything)
    assert notes == []
    assert (text, finished.completion_tokens) == (said(llama_cpp, everything)[0], 6)
    assert len(finished.logprobs) == 6 and all(len(each.top) == 2 for each in finished.logprobs)


def test_llama_cpp_holds_answers_to_a_schema_and_to_choices(llama_cpp: Server) -> None:
    held = GenerationSettings(max_new_tokens=60, constraint=Constraint("choice", '["yes", "no \\"really\\""]'))
    assert said(llama_cpp, held)[0] in ("yes", 'no "really"')
    schema = (
        '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}'
    )
    text = said(llama_cpp, GenerationSettings(max_new_tokens=100, constraint=Constraint("schema", schema)))[0]
    assert json.loads(text)["a"] in (1, 2)


def test_llama_cpp_goes_on_with_a_reply(llama_cpp: Server) -> None:
    whole = said(llama_cpp, GREEDY)[0]
    begun = ASKED.add(Message("assistant", whole[:5]))
    rest = said(llama_cpp, GenerationSettings(temperature=0, max_new_tokens=3, seed=1), begun)[0]
    assert rest and not rest.startswith(whole[:5])


def test_llama_cpp_reads_only_so_much(llama_cpp: Server) -> None:
    exchanges = [Message("user", "Hello " * 20), Message("assistant", "Hello " * 20)] * 4
    long = Conversation((*exchanges, Message("user", "Well?")))
    _, finished, notes = said(llama_cpp, GREEDY, long)
    assert finished.prompt_tokens < 256
    assert notes and all("oldest" in note for note in notes)
    with pytest.raises(ContextOverflow):
        said(llama_cpp, GREEDY, Conversation((Message("user", "Hello " * 500),)))


def test_leaving_llama_cpp_frees_it(llama_cpp: Server) -> None:
    engine = open_remote(llama_cpp, "", {}, lambda _: None)
    for _ in range(4):  # it has two slots
        endless = engine.stream(ASKED, GenerationSettings(max_new_tokens=200))
        assert any(isinstance(event, Text) for event in endless)
        endless.close()
    assert said(llama_cpp, GREEDY)[1].completion_tokens


def test_transformers_serve(transformers_serve: Server) -> None:
    while True:
        try:
            found = look(transformers_serve, {})
            break
        except ModelError:
            time.sleep(0.1)
    assert found.kind.name == "transformers"
    assert len(found.models) == 1
    text, finished, notes = said(
        transformers_serve, GenerationSettings(temperature=0, max_new_tokens=8, seed=1, think=False)
    )
    assert text
    assert (finished.reason, finished.completion_tokens, notes) == ("length", 8, [])
    assert finished.prompt_tokens > 5
    _, _, notes = said(transformers_serve, GenerationSettings(max_new_tokens=2, top_k=3))
    assert notes == ["served is transformers serve and has no top_k: left out."]
    with pytest.raises(UsageError, match="cannot hold an answer to --regex"):
        said(transformers_serve, GenerationSettings(constraint=Constraint("regex", "a+")))


def test_transformers_serve_refuses_what_it_does_not_know_and_is_asked_without(transformers_serve: Server) -> None:
    """The row of another kind, which a person may have named by mistake."""
    _, finished, notes = said(
        replace(transformers_serve, kind="vllm"), GenerationSettings(max_new_tokens=2, top_k=3, min_p=0.1)
    )
    assert finished.completion_tokens == 2
    assert notes == ["served does not take min_p and top_k; asking again without."]
