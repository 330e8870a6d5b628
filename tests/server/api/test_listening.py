"""Where the server listens: addresses that cannot be had, a socket that only its owner can open."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from chatcli.errors import UsageError
from chatcli.server.api.listening import bind_tcp, bind_unix, is_loopback, remove, url


def test_a_free_port_is_taken_and_told() -> None:
    with bind_tcp("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert url(bound) == f"http://{host}:{port}"


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"^Port {port} of 127.0.0.1 is in use: .* --port.$"):
            bind_tcp("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "x" * 300, "192.0.2.1"])
def test_an_address_that_this_machine_has_not(host: str) -> None:
    with pytest.raises(UsageError, match="--host"):
        bind_tcp(host, 0)


@pytest.mark.parametrize(
    ("host", "only_this_machine"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_which_addresses_others_reach(host: str, only_this_machine: bool) -> None:
    with bind_tcp(host, 0) as bound:  # which listens not yet
        assert is_loopback(bound) == only_this_machine


def test_only_its_owner_can_open_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(UsageError, match=r"listens at .* already"):
            bind_unix(path)
    with bind_unix(path):  # what a dead process left is replaced
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove(path)
    assert not path.exists()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(path)
    for each in (path, link, tmp_path):
        with pytest.raises(UsageError, match="is no socket"):
            bind_unix(each)
    remove(path)
    assert path.read_text() == "mine"


def test_where_no_socket_can_be(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "api.sock", tmp_path / ("x" * 200)):
        with pytest.raises(UsageError, match="No socket can be made"):
            bind_unix(path)
