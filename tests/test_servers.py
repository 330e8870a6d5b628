"""How people name servers, and where keys come from and never go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from chatcli import config, config_file
from chatcli.environment import Environment
from chatcli.errors import ConfigError, UsageError
from chatcli.servers.address import Address, parse_address
from chatcli.servers.keys import forget_key, keep_key, key_of
from chatcli.servers.profiles import Server, check_key_source, find_server, model_and_server, model_at


class Memory(KeyringBackend):
    """A keyring that forgets, in place of the system's."""

    priority = 1  # type: ignore[assignment]  # as the package's own backends have it

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def memory() -> Iterator[Memory]:
    before, there = keyring.get_keyring(), Memory()
    keyring.set_keyring(there)
    yield there
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("[::1]:8000", "http://[::1]:8000/v1"),
        ("localhost", "http://localhost/v1"),
        ("gpu.example.org", "https://gpu.example.org/v1"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1"),
        ("HTTPS://API.OpenAI.com:443/v1", "https://api.openai.com/v1"),
        ("unix:/run/chatcli.sock", "unix:/run/chatcli.sock"),
        ("unix:///run/chatcli.sock", "unix:/run/chatcli.sock"),
    ],
)
def test_addresses(said: str, url: str) -> None:
    assert parse_address(said).url == url
    assert parse_address(url) == parse_address(said)


def test_a_socket_may_be_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`chatcli serve --socket api.sock` was looked for at /api.sock."""
    monkeypatch.chdir(tmp_path)
    assert parse_address("unix:api.sock").url == f"unix:{tmp_path}/api.sock"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "http://",
        "ftp://host",
        "http://h:99999",
        "http://[::1",
        "http://a b/",
        "http://h/é",
        "http://h/a\x1bb",
        "://",
        "http://h/v1?key=1",
        "http://h#x",
        "unix:",
    ],
)
def test_what_is_no_address(said: str) -> None:
    with pytest.raises(UsageError, match="URL"):
        parse_address(said)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as seen:
        parse_address("http://me:hunter2@host/v1")
    assert "hunter2" not in str(seen.value)


def test_the_servers_own_pages_are_beside_its_api() -> None:
    assert parse_address("http://h:1/v1").root == ""
    assert parse_address("http://h:1/api/v1").root == "/api"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("m @ home", ("m", "home")),
        ("@ home", ("", "home")),
        ("/models/a b.gguf @ http://h:1/v1", ("/models/a b.gguf", "http://h:1/v1")),
        ("a @ b @ home", ("a @ b", "home")),
        ("m @ unix:/run/x.sock", ("m", "unix:/run/x.sock")),
        ("org/model@rev", None),
        ("org/model", None),
        ("./a @ b/c", None),
    ],
)
def test_a_model_and_its_server_are_one_name(name: str, parts: tuple[str, str] | None) -> None:
    assert model_and_server(name) == parts
    if parts:
        assert model_at(*parts) == name


def test_a_name_is_a_profile_and_anything_else_a_url() -> None:
    home = Server("home", Address("http", "localhost", 1))
    assert find_server("home", {"home": home}) is home
    assert find_server("localhost:1", {"home": home}) == Server(
        "http://localhost:1/v1", Address("http", "localhost", 1)
    )
    with pytest.raises(UsageError, match=r"no server hom \(known: home\)"):
        find_server("hom", {"home": home})


def test_a_key_comes_from_where_it_was_said_to_be() -> None:
    lan = Server("lan", Address("https", "gpu", 443), key_from="LAN_KEY")
    assert key_of(lan, {"LAN_KEY": " secret\n"}) == "secret"
    with pytest.raises(UsageError, match="LAN_KEY, which is not set"):
        key_of(lan, {"CHATCLI_SERVER_KEY": "another"})
    with pytest.raises(UsageError, match="characters"):
        key_of(lan, {"LAN_KEY": "a\nb"})


def test_a_key_that_was_meant_for_another_server_stays_here() -> None:
    """CHATCLI_SERVER_KEY is for a URL; OPENAI_API_KEY for its own host, which the caller knows."""
    variables = {"CHATCLI_SERVER_KEY": "mine", "OPENAI_API_KEY": "theirs"}
    address = Address("https", "gpu", 443)
    assert key_of(Server(address.url, address), variables) == "mine"
    assert key_of(Server("lan", address), variables) == ""
    assert key_of(Server("openai", address), variables, "OPENAI_API_KEY") == "theirs"


def test_a_key_does_not_travel_unencrypted_unless_that_was_allowed() -> None:
    variables = {"K": "secret"}
    assert key_of(Server("a", Address("http", "localhost", 1), key_from="K"), variables) == "secret"
    assert key_of(Server("a", Address("http", "h", 1), key_from="K", plain_http=True), variables) == "secret"
    with pytest.raises(UsageError, match="unencrypted") as seen:
        key_of(Server("a", Address("http", "127.evil.example", 1), key_from="K"), variables)
    assert "secret" not in str(seen.value)


def test_a_key_in_the_keyring_is_for_one_address(memory: Memory) -> None:
    home = Server("home", Address("https", "gpu", 443), key_from="keyring")
    keep_key(home, "secret")
    assert key_of(home, {}) == "secret"
    with pytest.raises(UsageError, match="has no key"):
        key_of(Server("home", Address("https", "evil", 443), key_from="keyring"), {})
    forget_key(home)
    assert memory.kept == {}
    forget_key(home)


def test_a_keyring_that_cannot_be_used_is_a_sentence() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(UsageError, match="keyring cannot be used"):
            key_of(Server("home", Address("https", "gpu", 443), key_from="keyring"), {})
    finally:
        keyring.set_keyring(before)


def test_profiles_are_written_and_taken_out_and_the_rest_of_the_file_stays(environment: Environment) -> None:
    file = config.path(environment)
    file.parent.mkdir(parents=True)
    file.write_text('# mine\ntemperature = 0.5  # cool\n\n[servers.lan] # the big one\nurl = "http://gpu:1/v1"\n')
    config_file.set_server(environment, "home", {"url": "http://localhost:1/v1", "model": "m", "key_from": "K"})
    loaded = config.load(environment)
    assert loaded.servers == {
        "lan": Server("lan", Address("http", "gpu", 1)),
        "home": Server("home", Address("http", "localhost", 1), "m", key_from="K"),
    }
    config_file.set_server(environment, "home", {"url": "http://localhost:2/v1"})
    assert config.load(environment).servers["home"] == Server("home", Address("http", "localhost", 2))
    config_file.remove_server(environment, "home")
    assert file.read_text().startswith("# mine\ntemperature = 0.5  # cool\n\n[servers.lan] # the big one\n")
    assert set(config.load(environment).servers) == {"lan"}
    with pytest.raises(UsageError, match="no server home"):
        config_file.remove_server(environment, "home")


@pytest.mark.parametrize(
    "text",
    [
        "servers = 1",
        "[servers.home]",
        '[servers.home]\nurl = "ftp://x"',
        '[servers.home]\nurl = "http://h"\nkey = "sk-secret"',
        '[servers.home]\nurl = "http://h"\nkey_from = "sk-secret"',
        '[servers.home]\nurl = "http://h"\nplain_http = "yes"',
        '[servers."a b"]\nurl = "http://h"',
    ],
)
def test_profiles_that_cannot_be_name_the_file_and_no_secret(environment: Environment, text: str) -> None:
    file = config.path(environment)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ConfigError) as seen:
        config.load(environment)
    assert str(file) in str(seen.value)
    assert "sk-secret" not in str(seen.value)


@pytest.mark.parametrize(
    ("file", "variables", "flags", "model"),
    [
        ("", {}, {"server": "home"}, "p @ home"),
        ("", {}, {"server": "home", "model": "m"}, "m @ home"),
        ("", {}, {"server": "bare"}, "@ bare"),
        ('model = "local/one"', {}, {"server": "bare"}, "@ bare"),
        ('model = "m"\nserver = "bare"', {}, {}, "m @ bare"),
        ('model = "m"\nserver = "home"', {}, {}, "p @ home"),
        ('server = "bare"', {"CHATCLI_MODEL": "m"}, {}, "m @ bare"),
        ('model = "m"', {"CHATCLI_SERVER": "bare"}, {}, "@ bare"),
        ('server = "bare"', {}, {"model": "guide"}, "guide"),
        ('server = "bare"', {}, {"model": "m @ home"}, "m @ home"),
        ('[alias]\nfast = "m @ home"', {}, {"model": "fast"}, "m @ home"),
        ("", {}, {}, "guide"),
    ],
)
def test_whose_model_is_meant(
    environment: Environment, file: str, variables: dict[str, str], flags: dict[str, object], model: str
) -> None:
    """A model that was said for this machine is not asked of a server that was said later."""
    from dataclasses import replace

    from chatcli.cli.opening import meant_model

    path = config.path(environment)
    path.parent.mkdir(parents=True)
    profiles = '[servers.home]\nurl = "http://h:1"\nmodel = "p"\n[servers.bare]\nurl = "http://h:2"\n'
    path.write_text(f"{file}\n{profiles}")
    assert meant_model(config.load(replace(environment, variables=variables), flags)) == model


def test_the_sources_of_keys_are_no_keys(environment: Environment, tmp_path: Path) -> None:
    for source in ("sk-123", "sk_123", "abcdef", "K K", "1K"):
        with pytest.raises(UsageError) as seen:
            check_key_source(source)
        assert source not in str(seen.value)
    assert os.environ.get("CHATCLI_SERVER_KEY") is None  # the tests must not be sent anywhere with one
