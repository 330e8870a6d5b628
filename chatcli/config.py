"""The settings of a person: defaults < config.toml < CHATCLI_* < flags, every value checked.

Knows names, types and ranges; knows no model and no command, and cannot tell what a setting does.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from chatcli.environment import Environment
from chatcli.errors import ConfigError, UsageError
from chatcli.generation import GenerationSettings, Layer
from chatcli.load_request import (
    DTYPES,
    FITS,
    QUANTIZATIONS,
    LoadRequest,
    check_device,
    parse_devices,
    parse_duration,
    parse_lora,
    parse_max_memory,
)
from chatcli.servers.profiles import Server, read_profile

Value = str | float | int | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting may be. `above` is a lower end that is itself not allowed; ends are inclusive else.

    `read` refuses a text that means nothing, with a UsageError that says what to write.
    """

    type: Literal["text", "number", "integer", "texts", "switch"]
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    choices: tuple[str, ...] = ()
    empty: bool = False
    read: Callable[[str], object] | None = None

    @property
    def allowed(self) -> str:
        """The end of a sentence that begins "it must be"."""
        if self.choices:
            return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))
        if self.type == "texts":
            return "a list of texts that are not empty"
        if self.type == "switch":
            return "true or false"
        if self.type == "text":
            return "a text" if self.empty else "a text that is not empty"
        noun = "a whole number" if self.type == "integer" else "a number"
        low = f" above {self.above:g}" if self.above > -math.inf else f" from {self.low:g}"
        if self.high == math.inf:
            return noun + low + ("" if self.above > -math.inf else " up")
        return f"{noun}{low}{' and at most' if self.above > -math.inf else ' to'} {self.high}"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "model": Kind("text"),
        "system": Kind("text", empty=True),
        "server": Kind("text"),
        "temperature": Kind("number", low=0),
        "top_p": Kind("number", above=0, high=1),
        "top_k": Kind("integer", low=0, high=2**31 - 1),
        "min_p": Kind("number", low=0, high=1),
        "repetition_penalty": Kind("number", above=0),
        "seed": Kind("integer", low=0, high=2**63 - 1),
        "max_tokens": Kind("integer", low=1, high=2**31 - 1),
        "stop": Kind("texts"),
        "overflow": Kind("text", choices=("stop", "drop-oldest")),
        "think": Kind("switch"),
        "reasoning_effort": Kind("text", choices=("low", "medium", "high")),
        "history": Kind("switch"),
        "plain": Kind("switch"),
        "editing_mode": Kind("text", choices=("emacs", "vi")),
        "adapter": Kind("text"),
        "dtype": Kind("text", choices=DTYPES),
        "quant": Kind("text", choices=QUANTIZATIONS),
        "fit": Kind("text", choices=FITS),
        "context": Kind("integer", low=1, high=2**31 - 1),
        "device": Kind("text", read=check_device),
        "devices": Kind("text", read=parse_devices),
        "max_memory": Kind("text", read=parse_max_memory),
        "lora": Kind("texts", read=parse_lora),
        "draft": Kind("text"),
        "compile": Kind("switch"),
        "keep_alive": Kind("text", read=parse_duration),
        "model_folders": Kind("texts"),
    }
)
"""Every setting, in the order in which people see them."""

FROM_THE_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "think", "reasoning_effort")
"""Settings that a checkpoint's own files or the adapter row may give, before our own defaults."""

FIELDS = {"max_tokens": "max_new_tokens"}
OF_LOADING = (
    "adapter",
    "dtype",
    "quant",
    "fit",
    "context",
    "device",
    "devices",
    "max_memory",
    "lora",
    "draft",
    "compile",
)
_OF_GENERATION = {field.name for field in fields(GenerationSettings)}
NOT_OF_GENERATION = tuple(key for key in KINDS if FIELDS.get(key, key) not in _OF_GENERATION)
KEEP_ALIVE = "5m"
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FLAG = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, None where nobody said one, and who said it: "default", "config.toml", a variable or a flag."""

    value: Value | None
    origin: str

    @property
    def nearness(self) -> int:
        """How near to the person it was said: not at all, in config.toml, by a variable, by a flag."""
        return _FLAG if self.origin.startswith("--") else {"default": 0, "config.toml": 1}.get(self.origin, 2)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings by name, in the order of `KINDS`, the short names of models, and the servers by theirs."""

    values: Mapping[str, Setting]
    aliases: Mapping[str, str]
    servers: Mapping[str, Server] = field(default_factory=dict)

    def value(self, key: str) -> Value | None:
        """The value of a setting, None where nobody said one."""
        return self.values[key].value

    def said_by_flag(self, key: str) -> bool:
        """Whether the command line itself gives the setting."""
        return self.values[key].nearness == _FLAG

    def as_near(self, key: str, other: str) -> bool:
        """Whether `key` is said where `other` is, or nearer."""
        return self.values[key].nearness >= self.values[other].nearness

    def layers(self) -> tuple[Layer, ...]:
        """What was said of generation, each setting with its origin."""
        said: dict[str, dict[str, Any]] = {}
        for key, setting in self.values.items():
            if key not in NOT_OF_GENERATION and setting.value is not None:
                said.setdefault(setting.origin, {})[FIELDS.get(key, key)] = setting.value
        return tuple(Layer(origin, GenerationSettings(**values)) for origin, values in said.items())

    def generation_settings(self) -> GenerationSettings:
        """What was said of generation; the rest stays open for the checkpoint and the defaults."""
        settings = GenerationSettings()
        for layer in self.layers():
            settings = settings.over(layer.settings)
        return settings

    @property
    def keep_alive(self) -> float:
        """Seconds that a model stays in memory after its last answer; 0 is not at all."""
        return parse_duration(str(self.value("keep_alive") or KEEP_ALIVE))

    @property
    def model_folders(self) -> tuple[str, ...]:
        """Folders in which models are looked for by name, beside the caches."""
        said = self.value("model_folders")
        return said if isinstance(said, tuple) else ()

    def unaliased(self, name: str) -> str:
        """The model that a short name stands for at last; any other name as it is.

        Raises:
            ConfigError: it leads back to itself.
        """
        seen = {name}
        while (target := self.aliases.get(name, name)) != name:
            if target in seen:
                raise ConfigError(f"The alias {target} leads back to itself: chatcli models alias --remove {target}.")
            seen.add(name := target)
        return name

    def load_request(self, *, revision: str = "", subfolder: str = "") -> LoadRequest:
        """What was said of how the model is run, and which of its files are meant."""
        said: dict[str, Any] = {key: found for key in OF_LOADING if (found := self.value(key)) not in (None, "auto")}
        return LoadRequest(
            revision=revision,
            subfolder=subfolder,
            adapter=said.get("adapter", ""),
            dtype=said.get("dtype", ""),
            quantization=said.get("quant"),
            fit=said.get("fit", "auto"),
            context=said.get("context", 0),
            device=said.get("device", ""),
            devices=parse_devices(said.get("devices", "")),
            max_memory=parse_max_memory(said.get("max_memory", "")),
            loras=tuple(parse_lora(each) for each in said.get("lora", ())),
            draft=said.get("draft", ""),
            compile=said.get("compile"),
        )


def path(environment: Environment) -> Path:
    """Where config.toml is, or would be."""
    return environment.config_folder / "config.toml"


def load(environment: Environment, flags: Mapping[str, object] = MappingProxyType({})) -> Config:
    """Everything that was said, the nearest last: config.toml, CHATCLI_* variables, `flags` by setting.

    Empty variables and flags that are None say nothing. Variables of other names are left alone.

    Raises:
        ConfigError: config.toml or a variable is wrong.
        UsageError: a flag is wrong.

    """
    values = {key: Setting(None, "default") for key in KINDS}
    stored, aliases, servers = read(path(environment))
    for key, value in stored.items():
        values[key] = Setting(value, "config.toml")
    for key in KINDS:
        name = f"CHATCLI_{key.upper()}"
        if text := environment.variables.get(name):
            values[key] = Setting(_found_in(name, key, parse, text), name)
    for key, said in flags.items():
        if said is not None:
            no = "no-" if said is False else ""
            values[key] = Setting(check(key, said), f"--{no}{key.replace('_', '-')}")
    return Config(MappingProxyType(values), MappingProxyType(aliases), MappingProxyType(servers))


def check(key: str, value: object) -> Value:
    """The value of a setting in its proper type; lists become tuples.

    Raises:
        UsageError: there is no such setting, or it cannot have this value.

    """
    kind = _kind(key)
    checked: Value | None = None
    if kind.type == "texts":
        if isinstance(value, list | tuple) and all(isinstance(text, str) and text for text in value):
            checked = tuple(value)
    elif kind.type == "text":
        if isinstance(value, str) and (value.strip() or kind.empty) and value in (kind.choices or (value,)):
            checked = value
    elif kind.type == "switch":
        if isinstance(value, bool):
            checked = value
    elif isinstance(value, int | float) and not isinstance(value, bool) and _in_range(kind, value):
        if kind.type == "number":
            checked = float(value)
        elif isinstance(value, int):
            checked = value
    if any(not _is_text(each) for each in (checked if isinstance(checked, tuple) else (checked,))):
        checked = None
    if checked is None:
        raise UsageError(f"{key} cannot be {_shown(value)}: it must be {kind.allowed}.")
    if kind.read:
        _read_through(key, kind.read, checked if isinstance(checked, tuple) else (str(checked),))
    return checked


def _read_through(key: str, read: Callable[[str], object], texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            read(text)
        except UsageError as error:
            raise UsageError(f"{key} cannot be {_shown(text)}: {error}") from None


def parse(key: str, text: str) -> Value:
    """The value that `text`, typed or from a variable, gives a setting.

    Several stop strings are written as a JSON list; any other text is one stop string.

    Raises:
        UsageError: there is no such setting, or it cannot have this value.

    """
    kind = _kind(key)
    value: object = text
    with suppress(ValueError, RecursionError):
        if kind.type == "texts":
            value = json.loads(text) if text.startswith("[") else [text]
        elif kind.type == "integer":
            value = int(text)
        elif kind.type == "number":
            value = float(text)
        elif kind.type == "switch":
            value = _SWITCHES.get(text.strip().lower(), text)
    return check(key, value)


def _kind(key: str) -> Kind:
    if key in KINDS:
        return KINDS[key]
    near = difflib.get_close_matches(key.replace("-", "_"), KINDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)} and alias.NAME."
    raise UsageError(f'There is no setting "{key}"; {hint}')


def check_alias(name: str, target: object) -> None:
    """Pass over a short name and what it stands for.

    Raises:
        UsageError: one of them cannot be.
    """
    if not _ALIAS.fullmatch(name):
        raise UsageError(f'An alias cannot be named "{name}": use letters, digits, dots, dashes and underscores.')
    if not isinstance(target, str) or not target.strip() or not _is_text(target):
        raise UsageError(f"alias.{name} cannot be {_shown(target)}: it must be a model's name or folder.")


def _is_text(value: object) -> bool:
    """Whether a value can be written as UTF-8: bytes of another encoding on a command line cannot."""
    return not isinstance(value, str) or not any("\ud800" <= each <= "\udfff" for each in value)


def _in_range(kind: Kind, value: float) -> bool:
    return kind.low <= value <= kind.high and kind.above < value <= sys.float_info.max


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 60 else text[:57] + "..."


def read(file: Path) -> tuple[dict[str, Value], dict[str, str], dict[str, Server]]:
    """The settings, aliases and servers of a config.toml; a missing file has none.

    Raises:
        ConfigError: the file cannot be read, or says what cannot be.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}, {}, {}
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); see that it is a file that you own.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}.") from error
    aliases = table.pop("alias", {})
    if not isinstance(aliases, dict):
        raise ConfigError(f'{file}: alias must be a table, [alias], of lines such as name = "owner/model".')
    for name, target in aliases.items():
        _found_in(str(file), name, check_alias, target)
    servers = table.pop("servers", {})
    if not isinstance(servers, dict):
        raise ConfigError(f"{file}: servers must be tables, as in [servers.home].")
    profiles = {name: _found_in(str(file), name, read_profile, said) for name, said in servers.items()}
    return {key: _found_in(str(file), key, check, value) for key, value in table.items()}, aliases, profiles


def _found_in(place: str, key: str, judge: Any, value: object) -> Any:
    """What `judge(key, value)` says, blaming the file or variable that the value stands in."""
    try:
        return judge(key, value)
    except UsageError as error:
        raise ConfigError(f"{place}: {error}") from error
