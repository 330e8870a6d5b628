"""Settings as people type them: their names, "temperature 0.2", "temperature=0.2 seed=5"."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from chatcli import config
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings
from chatcli.repl.commands.table import nearest


def names() -> dict[str, str]:
    """Every generation setting by the name that people use, with its field."""
    known = {field.name for field in fields(GenerationSettings)}
    return {key: field for key in config.KINDS if (field := config.FIELDS.get(key, key)) in known}


def field_of(key: str) -> str:
    """The field of `GenerationSettings` that a person calls `key`.

    Raises:
        UsageError: there is none.
    """
    known = names()
    if key not in known:
        raise UsageError(f"There is no setting {key}; " + nearest(key, list(known), lists="/set lists them."))
    return known[key]


def key_and_value(argument: str) -> tuple[str, str]:
    """The two parts of "temperature 0.2", or "temperature=0.2"; the second may be empty."""
    words = argument.split(maxsplit=1)
    if "=" in words[0]:
        key, _, value = argument.partition("=")
        return key.strip(), value.strip()
    return words[0], words[1].strip() if len(words) > 1 else ""


def several(argument: str) -> GenerationSettings:
    """The settings in "temperature=1.2 seed=5"; all others stay open.

    Raises:
        UsageError: a word is no setting, or its value cannot be.
    """
    said: dict[str, Any] = {}
    for word in argument.split():
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f'A setting is written as in temperature=1.2; "{word}" has no value.')
        said[field_of(key)] = config.parse(key, text)
    return GenerationSettings(**said)
