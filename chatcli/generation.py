"""What goes into an engine and what comes out: settings, events, the `Engine` protocol.

The one seam of chatcli. This module knows no model, no tensor, no terminal; everything above it
is written against `Engine.stream` and cannot tell a local model from a server.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, TypeAlias

from chatcli.conversation import Conversation, ToolCall

Overflow = Literal["drop-oldest", "stop"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "error"]
Effort = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer must conform to: `text` is a JSON schema, a regular expression, or a JSON list of choices.

    A grammar in Lark, with a model's token ids in it, is what an engine itself makes of a `tool_choice`.
    """

    kind: Literal["schema", "regex", "choice", "lark"]
    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer: its id, its text, its natural log probability, and the likeliest tokens there.

    Probabilities are the model's own, before temperature, filters and constraints.
    """

    id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to sample and when to stop. `None` (or no stop strings) means "not said here".

    Settings are layered with `over`: flags over config over checkpoint over adapter row over
    `DEFAULTS`. A temperature of 0 is greedy decoding. `top_k` 0, `top_p` 1, `min_p` 0 and
    `repetition_penalty` 1 switch the respective filter off. `think` and `reasoning_effort` reach the models
    whose chat template knows them. `top_logprobs` asks for the probability of every token and of that many
    others beside it; 0 is the token alone.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    overflow: Overflow | None = None
    think: bool | None = None
    reasoning_effort: Effort | None = None
    constraint: Constraint | None = None
    top_logprobs: int | None = None

    def over(self, below: GenerationSettings) -> GenerationSettings:
        """These settings, with what they leave open taken from `below`."""
        said = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(below, **said)


DEFAULTS = GenerationSettings(
    temperature=0.7,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    stop=(),
    overflow="drop-oldest",
)
"""What holds where nobody says otherwise. `max_new_tokens` stays open: the context is the limit; so does thinking:
the model's template has its own way."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings that one place says, and the place: a flag, a file's name, "the row qwen"."""

    origin: str
    settings: GenerationSettings


UNSAID = Layer("chatcli's default", DEFAULTS)
"""What holds of a model on this machine below all that is said; a server has defaults of its own."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """One setting in force: its field, its value (None where it stays open) and who says it."""

    name: str
    value: object
    origin: str


def in_force(
    settings: GenerationSettings, said: Sequence[Layer], below: Sequence[Layer], unsaid: Layer = UNSAID
) -> Iterator[Sourced]:
    """Every setting with its origin, where `settings` are in force over `below`, the nearest layer first.

    `said` are the layers that `settings` were made of; a value that none of them says was set in the chat.
    """
    layers = [*below, unsaid]
    for each in fields(GenerationSettings):
        value = getattr(settings, each.name)
        if value is not None:
            origins = (layer.origin for layer in said if getattr(layer.settings, each.name) == value)
            yield Sourced(each.name, value, next(origins, "/set"))
            continue
        saying = (layer for layer in layers if getattr(layer.settings, each.name) is not None)
        layer = next(saying, None)
        if layer:
            yield Sourced(each.name, getattr(layer.settings, each.name), layer.origin)
        else:
            yield Sourced(each.name, None, "" if unsaid == UNSAID else unsaid.origin)


@dataclass(frozen=True, slots=True)
class Part:
    """One of several things under way at once, such as a file that is downloaded: `done` of `total` units."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Something is under way that makes no text yet.

    `stage` is a gerund shown to people ("downloading", "loading", "reading", "writing");
    `done` of `total` counts `unit`s, a total of 0 means unknown. `note` is one sentence that the
    person must see, such as that old exchanges were dropped; most have none. `parts` are under way within it.

    "reading" counts the prompt's tokens, the first report those that were cached; "writing" counts the
    reply's. So a reply that is broken off has its numbers, too.
    """

    stage: str
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer: never empty, never half a character, free of control codes.

    `logprobs` are the tokens that made it certain, where they are asked for and known yet; `Finished` has those of all.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers, as clean as `Text`."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asks for a function to be called, all of it at once; whoever asked calls it, or not."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every stream that was read to its end.

    Counts are tokens; `cached_tokens` of the `prompt_tokens` were not read again.
    `seconds_to_first` runs from the call to the first token, `seconds` from there to the last.
    """

    reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds_to_first: float = 0.0
    seconds: float = 0.0
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Decode rate without the first token; 0 where it cannot be told."""
        return (self.completion_tokens - 1) / self.seconds if self.completion_tokens > 1 and self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, each of length 1, in the order of the texts; an answer to a conversation has none."""

    vectors: tuple[tuple[float, ...], ...]


Event: TypeAlias = Progress | Text | Reasoning | ToolCalled | Finished
Made: TypeAlias = Event | Embedded
"""What a served model yields, whatever it is asked for."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a toolbar or a stored conversation says of an engine. Empty or 0 where unknown.

    `layers` are what the model says of its own sampling, the nearest first, and `unsaid` is what holds below them.
    `sees` says whether it can be shown pictures, None where that is not known; `chats` whether it answers at all.

    `most_tokens_per_second` is the decode rate at which the memory's bandwidth is all used up: every weight
    is read once for each token.
    """

    model: str
    revision: str = ""
    device: str = ""
    precision: str = ""
    context: int = 0
    adapter: str = ""
    most_tokens_per_second: float = 0.0
    layers: tuple[Layer, ...] = ()
    sees: bool | None = None
    unsaid: Layer = UNSAID
    chats: bool = True

    @property
    def defaults(self) -> GenerationSettings:
        """The settings that the engine takes where a person says none."""
        settings = GenerationSettings()
        for layer in self.layers:
            settings = settings.over(layer.settings)
        return settings.over(self.unsaid.settings)


class Engine(Protocol):
    """Anything that answers a conversation."""

    @property
    def facts(self) -> EngineFacts:
        """What is known of the model now; never blocks."""
        ...

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer the last user message; a last message of the assistant's is gone on with where it ends.

        Closing the iterator cancels; errors are `ChatcliError`s.
        """
        ...

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Read ahead a conversation whose last message is still being written, or do nothing.

        Closing the iterator ends it. What the engine says later does not depend on it.
        """
        ...

    def count(self, conversation: Conversation) -> int:
        """How many tokens `conversation` is as a prompt; 0 where that is not known (yet). Never blocks."""
        ...

    def close(self) -> None:
        """Free what the engine holds. May be called twice."""
        ...
