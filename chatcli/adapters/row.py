"""One row of the adapter table: what it may say, and the check of what it does say.

Opens no checkpoint and compares no names. A mistake is reported by file, row and key, since a row may
stand in a person's own adapters.toml.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chatcli.adapters.template import TemplateRefusal, render
from chatcli.config import FROM_THE_MODEL, check
from chatcli.errors import BrokenCheckpoint, ConfigError, UsageError
from chatcli.generation import GenerationSettings
from chatcli.streaming.cleanup import CLEANUPS
from chatcli.streaming.tool_formats import FORMATS

# Names that a template already has, or that Jinja keeps for itself.
_TAKEN = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"})

_DEFAULT_SYSTEM = (
    "{%- if not messages or messages[0].role != 'system' -%}"
    "{%- set messages = [{'role': 'system', 'content': TEXT}] + messages -%}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One family, as table.toml describes its fields. `folder` is where a person's own row has its template."""

    name: str
    match: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    model_type: tuple[str, ...] = ()
    template: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    overrules: bool = False
    always_chats: bool = False
    stop_tokens: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ("<think>", "</think>")
    tools: str = ""
    defaults: GenerationSettings = field(default_factory=GenerationSettings)
    examples: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    rereads: bool = False
    cleanup: str = ""
    port: Mapping[str, str] | str = ""
    notes: str = ""
    folder: Path | None = None

    @property
    def template_text(self) -> str:
        """The row's template as Jinja that needs nothing else.

        Its parameters, and its system message where a conversation has none, are set in front of the file's text.

        Empty where the row has none.
        """
        if not self.template:
            return ""
        # All in one line: errors then name the line in the file.
        head = "".join(f"{{%- set {key} = {_literal(value)} -%}}" for key, value in self.parameters.items())
        if self.system is not None:
            head += _DEFAULT_SYSTEM.replace("TEXT", _literal(self.system))
        return head + _source(self.template, self.folder)


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _source(template: str, folder: Path | None) -> str:
    """The text of a template: a person's own text or file, or one of ours."""
    if _is_text(template):
        return template
    if folder and (folder / template).is_file():
        return (folder / template).read_text(encoding="utf-8")
    return (files("chatcli.adapters") / "templates" / template).read_text(encoding="utf-8")


def _is_text(template: str) -> bool:
    return "{{" in template or "{%" in template or "\n" in template


def read_row(name: str, said: object, file: Path, under: Adapter | None = None, *, ours: bool = False) -> Adapter:
    """The row that a table of a TOML file describes, laid over the row `under` it of the same name.

    Only rows of `ours` can name a port, which is a module of ours.

    Raises:
        ConfigError: it says something that no row can say; the text names file, row and key.
    """
    row = under or Adapter(name)
    if not isinstance(said, Mapping):
        raise ConfigError(f'{file}: "{name}" must be a row: a table such as [{name}].')
    values: dict[str, Any] = {}
    for key, value in said.items():
        try:
            values[key] = _checked(name, key, value, _KEYS if ours else _KEYS.keys() - {"port"})
        except UsageError as error:
            raise ConfigError(f"{file}: row {name}: {error}") from error
    return replace(row, **values)


def check_template(row: Adapter, file: Path) -> None:
    """See that a row's template exists, that Jinja can read it, and that it can write a plain question.

    Raises:
        ConfigError: it cannot; the text names file, row and, for a mistake in Jinja, the line.
    """
    if not row.template:
        return
    from jinja2 import TemplateSyntaxError

    from chatcli.adapters.sandbox import environment

    where = f"{file}: row {row.name}: template"
    called = "its text" if _is_text(row.template) else row.template
    try:
        environment().from_string(row.template_text)
        render(row.template_text, [{"role": "user", "content": "?"}])
    except TemplateRefusal:
        pass
    except BrokenCheckpoint as error:
        cause = error.__cause__ or "it runs without end"
        raise ConfigError(f"{where}: {called} fails with a plain question: {cause}.") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: there is no file {row.template} beside it, nor is it one of ours.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {row.template} cannot be read: {error}.") from error
    except TemplateSyntaxError as error:
        raise ConfigError(f"{where}: line {error.lineno} of {called} is no Jinja: {error.message}.") from error


def _checked(name: str, key: str, value: object, keys: Collection[str]) -> object:
    if key in keys:
        return _KEYS[key](key, value)
    if isinstance(value, Mapping):  # TOML reads [vicuna_v1.1] as a table within a table
        raise UsageError(f'"{key}" must not be a table; did you mean ["{name}.{key}"]?')
    raise UsageError(f'there is no key "{key}"; {_near(key, keys)}')


def _near(name: str, known: Collection[str]) -> str:
    """The end of a sentence on an unknown name: the one that was perhaps meant, or all."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]}?" if found else f"there are {', '.join(sorted(known))}."


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{key} must be a text.")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise UsageError(f"{key} must be a list of texts that are not empty.")
    return tuple(value)


def _tags(key: str, value: object) -> tuple[str, ...]:
    if len(texts := _texts(key, value)) not in (2, 3):
        raise UsageError(f'{key} must be two or three texts, such as ["<think>", "</think>"].')
    return texts


def _port(key: str, value: object) -> Mapping[str, str] | str:
    if isinstance(value, Mapping) and all(isinstance(module, str) for module in value.values()):
        return MappingProxyType(dict(value))
    return _text(key, value)


def _cleanup(key: str, value: object) -> str:
    if (text := _text(key, value)) not in CLEANUPS:
        raise UsageError(f'{key}: there is no "{text}"; {_near(text, [name for name in CLEANUPS if name])}')
    return text


def _tools(key: str, value: object) -> str:
    if (text := _text(key, value)) not in FORMATS:
        raise UsageError(f'{key}: there is no "{text}"; {_near(text, FORMATS)}')
    return text


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{key} must be true or false.")
    return value


def _parameters(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f'{key} must be a table, such as {{ user = "USER: {{}} " }}.')
    for name, said in value.items():
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in _TAKEN:
            raise UsageError(f'{key}: a template cannot have a variable "{name}".')
        if not isinstance(said, str | bool | int | float):
            raise UsageError(f"{key}: {name} must be a text, a number, true or false.")
    return MappingProxyType(dict(value))


def _sampling(key: str, value: object) -> GenerationSettings:
    if not isinstance(value, Mapping):
        raise UsageError(f"{key} must be a table, such as {{ temperature = 0.7 }}.")
    for name in value:
        if name not in FROM_THE_MODEL:
            raise UsageError(f'{key}: there is no "{name}"; {_near(name, FROM_THE_MODEL)}')
    try:
        return GenerationSettings(**{name: check(name, said) for name, said in value.items()})  # type: ignore[arg-type]
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error


_KEYS: Mapping[str, Callable[[str, object], object]] = {
    "match": _texts,
    "base": _texts,
    "model_type": _texts,
    "template": _text,
    "parameters": _parameters,
    "system": _text,
    "overrules": _flag,
    "always_chats": _flag,
    "stop_tokens": _texts,
    "stop": _texts,
    "reasoning": _tags,
    "tools": _tools,
    "defaults": _sampling,
    "examples": _texts,
    "before": _texts,
    "behind": _texts,
    "rereads": _flag,
    "cleanup": _cleanup,
    "port": _port,
    "notes": _text,
}
