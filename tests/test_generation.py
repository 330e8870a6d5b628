"""Settings in layers: the nearest that says something wins, and its name is told."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import DEFAULTS, EngineFacts, GenerationSettings, Layer, in_force
from chatcli.history.store import Store
from chatcli.session import Session

FLAG = Layer("--temperature", GenerationSettings(temperature=0.1))
FILE = Layer("config.toml", GenerationSettings(top_k=5))
MODEL = Layer("generation_config.json", GenerationSettings(temperature=0.6, top_p=0.9))
ROW = Layer("the row qwen", GenerationSettings(top_p=0.5, min_p=0.1))


def told(settings: GenerationSettings) -> dict[str, tuple[object, str]]:
    return {each.name: (each.value, each.origin) for each in in_force(settings, (FILE, FLAG), (MODEL, ROW))}


def test_every_setting_has_its_origin() -> None:
    said = told(GenerationSettings(temperature=0.1, top_k=5))
    assert list(said) == [field.name for field in fields(GenerationSettings)]
    assert said["temperature"] == (0.1, "--temperature")
    assert said["top_k"] == (5, "config.toml")
    assert said["top_p"] == (0.9, "generation_config.json")
    assert said["min_p"] == (0.1, "the row qwen")
    assert said["repetition_penalty"] == (DEFAULTS.repetition_penalty, "chatcli's default")
    assert said["seed"] == (None, "")


def test_what_is_changed_in_the_chat_says_so() -> None:
    assert told(GenerationSettings(temperature=0.2))["temperature"] == (0.2, "/set")
    assert told(GenerationSettings())["temperature"] == (0.6, "generation_config.json")  # /set temperature default


def test_a_session_knows_where_its_settings_come_from(tmp_path: Path) -> None:
    settings = GenerationSettings(temperature=0.1)
    with closing(Store.open(tmp_path / "history.db")) as store:
        session = Session(ScriptedEngine([""]), settings, store, said=(FLAG,))
        told = {each.name: each.origin for each in session.settings_in_force()}
        assert (told["temperature"], told["top_p"]) == ("--temperature", "chatcli's default")
        session.settings = replace(settings, temperature=0.9)
        assert {each.name: each.origin for each in session.settings_in_force()}["temperature"] == "/set"


def test_what_nobody_says_of_a_server_is_its_own() -> None:
    own = Layer("the server's own", GenerationSettings())
    said = {each.name: each for each in in_force(GenerationSettings(temperature=0.1), (FLAG,), (), own)}
    assert (said["temperature"].value, said["temperature"].origin) == (0.1, "--temperature")
    assert (said["top_p"].value, said["top_p"].origin) == (None, "the server's own")
    assert EngineFacts("m @ home", unsaid=own).defaults == GenerationSettings()
    assert EngineFacts("m").defaults == DEFAULTS
