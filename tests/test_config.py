"""Settings: who wins, what is refused and in which words, and that `config set` spoils no file."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli import config, config_file
from chatcli.config import KINDS, Setting
from chatcli.environment import Environment
from chatcli.errors import ChatcliError, ConfigError, UsageError
from chatcli.generation import GenerationSettings


def environment(folder: Path, **variables: str) -> Environment:
    return Environment(io.StringIO(), io.StringIO(), io.StringIO(), variables, config_folder=folder)


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_said(tmp_path: Path) -> None:
    loaded = config.load(environment(tmp_path / "missing"))
    assert list(loaded.values) == list(KINDS)
    assert set(loaded.values.values()) == {Setting(None, "default")}
    assert loaded.aliases == {}
    assert loaded.generation_settings() == GenerationSettings()


def test_the_nearest_wins(tmp_path: Path) -> None:
    write(tmp_path, 'model = "file/m"\ntemperature = 1\ntop_k = 5\nseed = 1\n[alias]\nglm = "THUDM/chatglm-6b"\n')
    outside = environment(tmp_path, CHATCLI_TOP_K="7", CHATCLI_SEED="2", CHATCLI_HOME="/x", CHATCLI_MIN_P="")
    loaded = config.load(outside, {"seed": 0, "top_p": None})
    assert {key: setting for key, setting in loaded.values.items() if setting.origin != "default"} == {
        "model": Setting("file/m", "config.toml"),
        "temperature": Setting(1.0, "config.toml"),
        "top_k": Setting(7, "CHATCLI_TOP_K"),
        "seed": Setting(0, "--seed"),
    }
    assert loaded.aliases == {"glm": "THUDM/chatglm-6b"}
    assert (loaded.value("model"), loaded.values["top_k"].origin) == ("file/m", "CHATCLI_TOP_K")
    assert loaded.generation_settings() == GenerationSettings(temperature=1.0, top_k=7, seed=0)


def test_every_generation_setting_arrives(tmp_path: Path) -> None:
    flags = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 4,
        "max_tokens": 9, "stop": ["a", "b"], "overflow": "stop", "think": False, "reasoning_effort": "low",
    }  # fmt: skip
    assert config.load(environment(tmp_path), flags).generation_settings() == GenerationSettings(
        temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, repetition_penalty=1.1, seed=4,
        max_new_tokens=9, stop=("a", "b"), overflow="stop", think=False, reasoning_effort="low",
    )  # fmt: skip


@pytest.mark.parametrize(("text", "value"), [("true", True), ("Off", False), ("no", False), ("1", True), ("ON", True)])
def test_a_switch_is_written_as_people_write_it(tmp_path: Path, text: str, value: bool) -> None:
    assert config.parse("think", text) is value
    assert config.load(environment(tmp_path, CHATCLI_THINK=text)).generation_settings().think is value


def test_layers_tell_who_said_what(tmp_path: Path) -> None:
    write(tmp_path, "top_k = 5\nmin_p = 0.1\n")
    loaded = config.load(environment(tmp_path, CHATCLI_SEED="2"), {"think": False, "max_tokens": 9})
    assert [(layer.origin, layer.settings) for layer in loaded.layers()] == [
        ("config.toml", GenerationSettings(top_k=5, min_p=0.1)),
        ("CHATCLI_SEED", GenerationSettings(seed=2)),
        ("--max-tokens", GenerationSettings(max_new_tokens=9)),
        ("--no-think", GenerationSettings(think=False)),
    ]


WRONG: list[tuple[str, object, str]] = [
    ("temperature", -0.1, "a number from 0 up"),
    ("temperature", "hot", "a number from 0 up"),
    ("temperature", True, "a number from 0 up"),
    ("temperature", float("nan"), "a number from 0 up"),
    ("temperature", float("inf"), "a number from 0 up"),
    ("top_p", 0, "a number above 0 and at most 1"),
    ("top_p", 1.01, "a number above 0 and at most 1"),
    ("min_p", 2, "a number from 0 to 1"),
    ("top_k", 1.5, "a whole number from 0 to 2147483647"),
    ("top_k", -1, "a whole number from 0 to 2147483647"),
    ("top_k", 10**400, "a whole number from 0 to 2147483647"),
    ("temperature", 10**400, "a number from 0 up"),
    ("repetition_penalty", 0, "a number above 0"),
    ("max_tokens", 0, "a whole number from 1 to 2147483647"),
    ("seed", 2**63, "a whole number from 0 to 9223372036854775807"),
    ("seed", False, "a whole number from 0"),
    ("stop", "text", "a list of texts that are not empty"),
    ("stop", ["a", ""], "a list of texts that are not empty"),
    ("stop", [1], "a list of texts that are not empty"),
    ("overflow", "wrap", "stop or drop-oldest"),
    ("think", "maybe", "true or false"),
    ("think", 1, "true or false"),
    ("reasoning_effort", "much", "low, medium or high"),
    ("model", " ", "a text that is not empty"),
    ("system", 3, "a text"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_wrong_values_are_refused(key: str, value: object, allowed: str) -> None:
    with pytest.raises(UsageError) as raised:
        config.check(key, value)
    assert str(raised.value).startswith(f"{key} cannot be ")
    assert f"it must be {allowed}" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "checked"),
    [
        ("temperature", 0, 0.0), ("top_p", 1, 1.0), ("top_k", 0, 0), ("seed", 2**63 - 1, 2**63 - 1),
        ("system", "", ""), ("stop", [], ()), ("overflow", "drop-oldest", "drop-oldest"), ("max_tokens", 1, 1),
    ],
)  # fmt: skip
def test_the_ends_of_the_ranges_are_allowed(key: str, value: object, checked: object) -> None:
    assert config.check(key, value) == checked
    assert type(config.check(key, value)) is type(checked)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("temperature", "0.5", 0.5), ("top_k", "40", 40), ("model", "a/b", "a/b"), ("stop", "END", ("END",)),
        ("stop", '["a\\n", "b"]', ("a\n", "b")), ("system", "[x]", "[x]"),
    ],
)  # fmt: skip
def test_typed_values(key: str, text: str, value: object) -> None:
    assert config.parse(key, text) == value


@pytest.mark.parametrize(
    ("key", "text"), [("top_k", "4.0"), ("temperature", "nan"), ("seed", ""), ("stop", ""), ("stop", "[" * 9999)]
)
def test_typed_values_that_are_wrong(key: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{key} cannot be"):
        config.parse(key, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temperature = 'hot'", ["config.toml", "temperature", '"hot"', "a number from 0 up"]),
        ("temprature = 1", ["config.toml", "temprature", "did you mean temperature?"]),
        ("top-k = 1", ["did you mean top_k?"]),
        ("xyz = 1", ["xyz", "there are model, system"]),
        ("model = 'a'\nsystem = \nseed = 1", ["config.toml", "line 2"]),
        ("model = ", ["config.toml", "at end of document"]),
        ("alias = 'x'", ["[alias]"]),
        ("[alias]\nglm = 3", ["config.toml", "alias.glm"]),
        ("[alias]\n'a/b' = 'x'", ["config.toml", '"a/b"']),
        ("[model]\nname = 'x'", ["model cannot be"]),
        ("seed = 2020-01-01", ["seed cannot be"]),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        config.load(environment(tmp_path))
    for word in words:
        assert word in str(raised.value)
    with pytest.raises(ConfigError):
        config_file.set_value(environment(tmp_path), "seed", "1")
    assert (tmp_path / "config.toml").read_text() == text


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CHATCLI_TOP_K: top_k cannot be"):
        config.load(environment(tmp_path, CHATCLI_TOP_K="many"))


def test_a_wrong_flag_is_a_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed cannot be -1"):
        config.load(environment(tmp_path), {"seed": -1})


@pytest.mark.parametrize("content", [b"model = '\xff'", None])
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "config.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        config.load(environment(tmp_path))


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbfseed = 1\n")
    assert config.load(environment(tmp_path)).value("seed") == 1


@given(st.sampled_from([*KINDS]), st.text(max_size=8))
def test_any_text_is_a_value_or_a_sentence(key: str, text: str) -> None:
    try:
        value = config.parse(key, text)
    except ChatcliError as error:
        assert str(error).startswith(f"{key} cannot be ")
    else:
        assert config.check(key, value) == value


def test_set_begins_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    outside = environment(tmp_path / "new" / "config")
    config_file.set_value(outside, "model", "Qwen/Qwen3-0.6B")
    file = config.path(outside)
    assert file.read_text() == 'model = "Qwen/Qwen3-0.6B"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_set_keeps_comments_order_and_mode(tmp_path: Path) -> None:
    file = write(tmp_path, "# mine\ntemperature = 0.5  # warm\n\n[alias]\n# short\na = 'b'\n")
    file.chmod(0o640)
    outside = environment(tmp_path)
    config_file.set_value(outside, "temperature", "1")
    config_file.set_value(outside, "seed", "3")
    config_file.set_value(outside, "stop", '["x\\n"]')
    config_file.set_value(outside, "alias.glm", "THUDM/chatglm-6b")
    text = file.read_text()
    assert "# mine\ntemperature = 1.0  # warm\n" in text
    assert "[alias]\n# short\na = 'b'\n" in text
    loaded = config.load(outside)
    assert [loaded.value(key) for key in ("temperature", "seed", "stop")] == [1.0, 3, ("x\n",)]
    assert loaded.aliases == {"a": "b", "glm": "THUDM/chatglm-6b"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]


def test_unset_takes_one_line_out_and_no_other(tmp_path: Path) -> None:
    """A usual server that is no more could not be got rid of but by hand."""
    file = write(tmp_path, "# mine\nserver = 'home'\nseed = 3  # three\n\n[alias]\na = 'b'\nc = 'd'\n")
    outside = environment(tmp_path)
    config_file.unset_value(outside, "server")
    config_file.unset_value(outside, "alias.a")
    assert file.read_text() == "# mine\nseed = 3  # three\n\n[alias]\nc = 'd'\n"
    for key in ("server", "alias.a", "nonsense"):
        with pytest.raises(UsageError):
            config_file.unset_value(outside, key)


def test_set_refuses_a_server_that_nobody_knows(tmp_path: Path) -> None:
    file = write(tmp_path, "[servers.home]\nurl = 'http://localhost:8000/v1'\n")
    outside = environment(tmp_path)
    with pytest.raises(UsageError, match="There is no server none"):
        config_file.set_value(outside, "server", "none")
    assert "server =" not in file.read_text()
    for server in ("home", "localhost:8001"):
        config_file.set_value(outside, "server", server)
        assert config.load(outside).value("server") == server


def test_set_begins_the_alias_table(tmp_path: Path) -> None:
    outside = environment(tmp_path)
    config_file.set_value(outside, "alias.glm", "THUDM/chatglm-6b")
    config_file.set_value(outside, "model", "glm")
    config_file.set_value(outside, "alias.q", "Qwen/Qwen3-0.6B")
    assert config.path(outside).read_text() == (
        'model = "glm"\n\n[alias]\nglm = "THUDM/chatglm-6b"\nq = "Qwen/Qwen3-0.6B"\n'
    )


def test_set_keeps_the_line_ends_of_an_editor(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"# mine\r\nseed = 1\r\n")
    config_file.set_value(environment(tmp_path), "seed", "2")
    assert file.read_bytes() == b"# mine\r\nseed = 2\r\n"


def test_set_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    file = write(tmp_path / "dotfiles", "seed = 1\n")
    (tmp_path / "config.toml").symlink_to(file)
    config_file.set_value(environment(tmp_path), "seed", "2")
    assert (tmp_path / "config.toml").is_symlink()
    assert file.read_text() == "seed = 2\n"


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("tempereture", "1", "did you mean temperature"),
        ("seed", "x", "a whole number"),
        ("alias.a/b", "x/y", "letters"),
        ("alias.", "x/y", "letters"),
        ("alias.x", " ", "a model's name or folder"),
        ("alias", "x", "no setting"),
    ],
)
def test_set_refuses_and_writes_nothing(tmp_path: Path, key: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config_file.set_value(environment(tmp_path), key, text)
    assert list(tmp_path.iterdir()) == []


def test_set_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        config_file.set_value(environment(tmp_path / "file"), "seed", "1")


@pytest.mark.parametrize("text", ["0=" + "9" * 400 + "GiB", "9" * 5000 + "=1GB"])
def test_a_limit_of_memory_beyond_all_numbers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="max_memory cannot be"):
        config.check("max_memory", text)


def test_a_gpu_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match="devices cannot be"):
        config.check("devices", "9" * 5000)


def test_aliases_are_followed_to_their_end(tmp_path: Path) -> None:
    outside = environment(tmp_path)
    config.path(outside).parent.mkdir(parents=True, exist_ok=True)
    config.path(outside).write_text('[alias]\na = "b"\nb = "c"\nc = "org/m"\nself = "self"\nx = "y"\ny = "x"\n')
    loaded = config.load(outside)
    assert [loaded.unaliased(each) for each in ("a", "org/m", "self")] == ["org/m", "org/m", "self"]
    with pytest.raises(ConfigError, match="leads back to itself"):
        loaded.unaliased("x")


@pytest.mark.parametrize("key", ["model", "alias.a"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, key: str) -> None:
    """Python hands such bytes on from a command line, and they cannot be written."""
    with pytest.raises(UsageError, match="cannot be"):
        config_file.set_value(environment(tmp_path), key, "m\udcff")
