"""One request and its answer over real sockets: TCP, a Unix socket, a proxy, and what is no server."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest
from faulty_server import endless, serving, silent, status
from waiting import until

from chatcli.exchange import ExchangeFailed, Head, Patience, Request, exchange, fetch
from chatcli.servers.address import Address, parse_address


def get(address: Address, path: str = "/v1/models") -> Request:
    return Request(address, "GET", path)


def test_an_answer_and_its_headers() -> None:
    with serving() as server:
        head, body = fetch(get(parse_address(server.url)), Patience())
    assert head.status == 200 and head.headers["content-type"] == "application/json"
    assert b'"data"' in body
    assert server.got[0][1]["User-Agent"].startswith("chatcli/")


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        threading.Thread(target=answer, daemon=True).start()
        assert fetch(get(parse_address(f"unix:{path}")), Patience())[1] == b"hi"
    with pytest.raises(ExchangeFailed, match="nobody listens at"):
        fetch(get(parse_address(f"unix:{tmp_path}/other.sock")), Patience())


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as proxy, serving() as near:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        proxy.pages["http://far.example/v1/models"] = {"data": "far"}
        assert b"far" in fetch(get(parse_address("http://far.example")), Patience())[1]
        fetch(get(parse_address(near.url)), Patience())
        assert [path for path, _, _ in proxy.got] == ["http://far.example/v1/models"]
        monkeypatch.setenv("no_proxy", "far.example")
        with pytest.raises(ExchangeFailed, match="far"):
            fetch(get(parse_address("http://far.example")), Patience())


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(ExchangeFailed, match=r"no host nowhere\.invalid"):
        fetch(get(parse_address("http://nowhere.invalid:1")), Patience())


def test_https_where_there_is_none() -> None:
    with serving() as server, pytest.raises(ExchangeFailed) as seen:
        fetch(get(parse_address(server.url.replace("http:", "https:"))), Patience(0.5, 0.5, 0.5))
    assert seen.value.kind in ("foreign", "cut", "silent")


def test_somebody_listens_and_never_accepts() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = parse_address(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ExchangeFailed, match="says nothing in time"):
            fetch(get(address), Patience(first=0.2))


def test_closing_wakes_up_the_thread_that_reads() -> None:
    before = threading.active_count()
    with serving(endless) as server:
        request = Request(parse_address(server.url), "POST", "/v1/x", {"Content-Type": "x"}, b"{}")
        with closing(exchange(request, Patience())) as pieces:
            assert any(isinstance(piece, Head) for piece in pieces)
        assert server.left.wait()
    with serving(silent) as server:
        request = Request(parse_address(server.url), "POST", "/v1/x", {}, b"{}")
        with closing(exchange(request, Patience())) as pieces:
            assert next(pieces) is None
        assert server.left.wait()
    until(lambda: threading.active_count() <= before)


def test_an_answer_that_is_too_large_is_given_up() -> None:
    with serving() as server:
        server.pages["/big"] = status(200, "x" * (5 << 20))
        with pytest.raises(ExchangeFailed, match="more than"):
            fetch(get(parse_address(server.url), "/big"), Patience())


@pytest.mark.parametrize("proxy", ["http://proxy:port", "socks5://me:secret@127.0.0.1:1080", "http://", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ExchangeFailed, match="no http://HOST:PORT") as failure:
        fetch(get(parse_address("https://far.example")), Patience())
    assert "secret" not in str(failure.value)
