"""Our plain values as lines of JSON and back, and what is said over the socket of a resident model.

Any frozen dataclass of the table below travels whole; a field at its default is left out. It opens no socket and
knows no model.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from chatcli import errors
from chatcli.conversation import Attachment, Conversation, Message, Tool, ToolCall
from chatcli.generation import (
    Constraint,
    EngineFacts,
    Finished,
    GenerationSettings,
    Layer,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCalled,
)
from chatcli.load_request import LoadRequest, Lora


@dataclass(frozen=True, slots=True)
class Open:
    """Wait for the model; answered by its `EngineFacts`. `keep_alive` in seconds, from now on."""

    keep_alive: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Answer a conversation; answered by the events of `Engine.stream`. `talk` tells one chat from another."""

    talk: str
    conversation: Conversation
    settings: GenerationSettings
    keep_alive: float


@dataclass(frozen=True, slots=True)
class Prepare:
    """Read ahead what may be asked next, while nobody asks anything; answered by progress and at last `Ready`."""

    talk: str
    conversation: Conversation
    settings: GenerationSettings


@dataclass(frozen=True, slots=True)
class Ready:
    """What was to be prepared is, or somebody else had a question."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens a conversation is; answered by `Tokens`."""

    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens."""

    tokens: int


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Say how you are; answered by a `Status` at once, whatever is under way."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End now, or, `if_idle`, only where nobody is being answered; answered by a `Status`."""

    if_idle: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How a resident model is: `state` is loading, idle or answering; sizes in bytes, times in seconds.

    `idle` is since when nobody asked, `remaining` until it leaves.
    """

    model: str
    version: str
    pid: int
    state: str
    device: str = ""
    precision: str = ""
    bytes: int = 0
    idle: float = 0.0
    remaining: float = 0.0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the other side: its class in `errors` and its sentence."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: errors.ChatcliError) -> Failure:
        """As it travels."""
        return cls(type(error).__name__, str(error))

    @property
    def error(self) -> errors.ChatcliError:
        """As it was raised."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, errors.ChatcliError):
            return kind(self.text)
        return errors.EngineError(self.text)


@dataclass(frozen=True, slots=True)
class Spec:
    """Which model a resident process holds: a checkpoint's name, folder or file and commit, and how it is run.

    `trusted`, `loras` (name, folder and scale of each), `texts` and `base` are the checkpoint's. `files` is a
    fingerprint of all that it is made from, so that a changed file is another model.
    """

    name: str
    path: str
    revision: str
    trusted: bool
    request: LoadRequest
    files: str
    version: str
    loras: tuple[tuple[str, str, float], ...] = ()
    texts: str = ""
    base: str = ""


_KINDS: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Ask, Attachment, Constraint, Conversation, Count, EngineFacts, Failure, Finished, GenerationSettings),
        *(GetStatus, Layer, LoadRequest, Lora, Message, Open, Prepare, Progress, Ready, Reasoning, Spec),
        *(Status, Stop, Text, TokenLogprob, Tokens, Tool, ToolCall, ToolCalled),
    )
}


def encode(value: object) -> bytes:
    """One line, with its end."""
    return json.dumps(_plain(value), separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes | str) -> Any:
    """The value that `encode` was given; lists come back as tuples.

    Raises:
        ValueError: this is no such line.
    """
    try:
        return json.loads(line, object_hook=_built)
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"not a value that we send: {error}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        told = {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) != _default(f)}
        return {"is": type(value).__name__, **told}
    if isinstance(value, list | tuple):
        return {"is": "tuple", "of": [_plain(each) for each in value]}
    if isinstance(value, Mapping):
        return {"is": "map", "of": [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, bytes):
        return {"is": "bytes", "of": base64.b64encode(value).decode("ascii")}
    return value


def _default(field: Field[Any]) -> object:
    make = field.default_factory
    return field.default if make is MISSING else make()


def _built(plain: dict[str, Any]) -> object:
    match plain.pop("is"):
        case "tuple":
            return tuple(plain["of"])
        case "map":
            return dict(plain["of"])
        case "bytes":
            return base64.b64decode(plain["of"])
        case kind:
            return _KINDS[kind](**plain)
