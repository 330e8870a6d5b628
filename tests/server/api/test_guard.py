"""Who is let in: keys, names in the Host header, pages of other sites; what a refusal tells."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from api_server import serving

from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import ChatcliError, ContextOverflow, EngineError, OutOfMemory, UsageError
from chatcli.generation import EngineFacts, Text
from chatcli.server.api.guard import Guard
from chatcli.server.api.service import Limits

CLIENT = httpx.Client()
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "How are you?"}]}


@pytest.fixture(scope="module")
def open_server() -> Iterator[str]:
    with serving({"m": ScriptedEngine(["Fine."])}, limits=Limits(body=2000)) as address:
        yield address


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with serving({"m": ScriptedEngine(["Fine."])}, Guard(("first-key", "second-key"), None)) as address:
        yield address


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1234", "[::1]:8000", "localhost."])
def test_the_machine_may_be_called_by_its_own_names(open_server: str, host: str) -> None:
    assert CLIENT.get(f"{open_server}/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "[::2]", "x"]
)
def test_another_name_is_a_page_that_pretends(open_server: str, host: str) -> None:
    refused = CLIENT.post(f"{open_server}/v1/chat/completions", json=QUESTION, headers={"Host": host})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost", "file://"]
)
def test_pages_of_other_sites_are_not_answered(open_server: str, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        refused = CLIENT.request(method, f"{open_server}/v1/models", headers={"Origin": origin})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in refused.headers


def test_the_servers_own_page_is_answered(open_server: str) -> None:
    assert CLIENT.get(f"{open_server}/v1/models", headers={"Origin": open_server}).status_code == 200


def test_a_form_of_another_site_cannot_ask(open_server: str) -> None:
    """A form needs no leave to send text/plain, and sends no Origin in old browsers."""
    refused = CLIENT.post(
        f"{open_server}/v1/chat/completions", content=b'{"messages": []}', headers={"Content-Type": "text/plain"}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_any_of_the_keys_opens(locked: str, key: str) -> None:
    answer = CLIENT.post(
        f"{locked}/v1/chat/completions",
        json=QUESTION,
        headers={"Authorization": f"Bearer {key}", "Host": "any.example"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("said", [None, "Bearer", "Bearer first-ke", "Basic first-key", "first-key", "Bearer fïrst"])
def test_without_a_key_nothing_is_told(locked: str, said: str | None) -> None:
    headers = {} if said is None else {"Authorization": said.encode()}
    for path in ("/v1/models", "/metrics", "/tokenize", "/v1/chat/completions", "/v1/nothing"):
        refused = CLIENT.request("GET", locked + path, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "first-key" not in refused.text
    assert CLIENT.get(f"{locked}/health").status_code == 200


def test_a_long_body_is_refused_before_it_is_read(open_server: str) -> None:
    long = {**QUESTION, "messages": [{"role": "user", "content": "x" * 4000}]}
    refused = CLIENT.post(f"{open_server}/v1/chat/completions", json=long)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")

    def pieces() -> Iterator[bytes]:
        yield from [b" " * 500] * 10

    headers = {"Content-Type": "application/json"}
    assert CLIENT.post(f"{open_server}/v1/chat/completions", content=pieces(), headers=headers).status_code == 413


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[" * 1500, b"", b'{"a": NaN', b'{"a": "\xed\xa0\x80"}', "{}".encode("utf-16")]
)
def test_what_is_no_json_is_refused(open_server: str, body: bytes) -> None:
    refused = CLIENT.post(
        f"{open_server}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


def test_paths_and_methods_that_there_are_not(open_server: str) -> None:
    missing = CLIENT.get(f"{open_server}/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_url")
    wrong = CLIENT.get(f"{open_server}/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("/home/me/m reads text only: ask without it."), 400, "m reads text only: ask without it."),
        (EngineError("/home/me/m broke."), 500, "The model failed while answering."),
        (OutOfMemory("/home/me/m is too large."), 503, "The server's memory is too small for this request."),
        (ContextOverflow("too long", 9), 400, "This model's maximum context length is 50 tokens. However, you sent 9"),
    ],
    ids=str,
)
def test_what_an_engine_says_names_no_file(error: ChatcliError, status: int, said: str) -> None:
    class Named(ScriptedEngine):
        facts = EngineFacts("/home/me/m", context=50)

    with serving({"m": Named([[error]])}) as address:
        answer = CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
    assert answer.status_code == status and answer.json()["error"]["message"].startswith(said)
    assert "/home" not in answer.text


def test_a_defect_tells_clients_and_the_log_nothing_of_itself(capfd: pytest.CaptureFixture[str]) -> None:
    for broken in ([ValueError("/home/me/secret")], [Text("Well"), ValueError("/home/me/secret")]):
        with serving({"m": ScriptedEngine([broken])}) as address:
            answer = CLIENT.post(f"{address}/v1/chat/completions", json=QUESTION)
            assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
            streamed = CLIENT.post(f"{address}/v1/chat/completions", json={**QUESTION, "stream": True})
            assert "The server had an error" in streamed.text and "[DONE]" not in streamed.text
            assert "secret" not in answer.text + streamed.text
    log = capfd.readouterr().err
    assert "ValueError" in log and "secret" not in log and "Traceback" not in log
