"""What a client asks for: the JSON of a request as our values, whole and checked, or an error that names the field.

Fields that the API does not know are passed over, as it does; those that it knows and this server cannot honour are
refused unless they say what holds anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

from chatcli.conversation import Conversation
from chatcli.generation import GenerationSettings
from chatcli.openai.fields import Fields
from chatcli.openai.messages import conversation
from chatcli.openai.sampling import effort, response_format, sampling, think
from chatcli.openai.tools import choice_of, tools_of

MOST_CHOICES = 16
MOST_LOGPROBS = 20
"""Of likeliest tokens beside each, as the API allows."""
_COMPLETION_TOKENS = 16
"""Length of an answer of /v1/completions where the request says none, as the API has it."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How an answer is to be given: to which `model`, how many times, as a stream or whole."""

    model: str
    settings: GenerationSettings
    choices: int = 1
    stream: bool = False
    include_usage: bool = False

    def settings_of(self, choice: int) -> GenerationSettings:
        """The settings of one of the choices: with a seed they differ, and are the same the next time."""
        seed = self.settings.seed
        return replace(self.settings, seed=seed + choice) if seed is not None else self.settings


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request of /v1/chat/completions."""

    ways: Ways
    conversation: Conversation
    parallel_calls: bool = True


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request of /v1/completions: every prompt is text or token ids, and gets all the choices."""

    ways: Ways
    prompts: tuple[str | tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request of /v1/embeddings."""

    model: str
    texts: tuple[str, ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int = 0


def chat_request(body: object, sees: Callable[[str], bool] = lambda _: True) -> ChatRequest:
    """A checked request for a chat completion; whether the model of a name `sees`, whoever serves it knows.

    Raises:
        ApiError: it is none, or asks for what cannot be.
    """
    fields = Fields(body)
    _refuse_what_none_can(fields)
    for name in ("functions", "function_call"):
        fields.refuse(name, None, "is of an older API: use tools")
    fields.refuse("audio", None, "asks for sound, which this server has none of")
    fields.refuse("modalities", ["text"], "may only ask for text")
    talk = conversation(fields, sees=sees(fields.text("model") or ""))
    tools = tools_of(fields)
    talk = replace(talk, tools=tools, tool_choice=choice_of(fields, tools))
    logprobs = (fields.count("top_logprobs", 0, MOST_LOGPROBS) or 0) if fields.flag("logprobs") else None
    if logprobs is None and "top_logprobs" in fields:
        raise fields.wrong("top_logprobs", "needs logprobs to be true")
    longest = fields.count("max_completion_tokens", 1) or fields.count("max_tokens", 1)
    settings = replace(
        sampling(fields),
        max_new_tokens=longest,
        top_logprobs=logprobs,
        constraint=response_format(fields),
        think=think(fields),
        reasoning_effort=effort(fields),
    )
    parallel = fields.get("parallel_tool_calls") is None or fields.flag("parallel_tool_calls")
    return ChatRequest(_ways(fields, settings), talk, parallel)


def completion_request(body: object) -> CompletionRequest:
    """A checked request for a completion of bare text.

    Raises:
        ApiError: it is none, or asks for what cannot be.
    """
    fields = Fields(body)
    _refuse_what_none_can(fields)
    fields.refuse("echo", False, "cannot give the prompt back")
    fields.refuse("suffix", "", "asks for text to be inserted, which this server cannot do")
    fields.refuse(
        "best_of", fields.get("n") or 1, "must be as large as n: this server gives every answer that it makes"
    )
    fields.required("prompt")
    settings = replace(
        sampling(fields),
        max_new_tokens=fields.count("max_tokens", 1) or _COMPLETION_TOKENS,
        top_logprobs=fields.count("logprobs", 0, MOST_LOGPROBS),
    )
    ways = _ways(fields, settings)
    prompts = _prompts(fields)
    if len(prompts) * ways.choices > MOST_CHOICES:
        raise fields.wrong("prompt", f"may with n ask for at most {MOST_CHOICES} answers")
    return CompletionRequest(ways, prompts)


def embedding_request(body: object) -> EmbeddingRequest:
    """A checked request for embeddings.

    Raises:
        ApiError: it is none, or asks for what cannot be.
    """
    fields = Fields(body)
    fields.required("input")
    if isinstance(fields.get("input"), list) and not all(isinstance(each, str) for each in fields.get("input")):
        raise fields.wrong(
            "input",
            "must be text: token ids of another model's tokenizer would mean nothing "
            "(LangChain: check_embedding_ctx_length=False)",
        )
    texts = fields.texts("input", 2048) or ()
    if not texts or not all(texts):
        raise fields.wrong("input", "must not be empty")
    encoding = cast(Literal["float", "base64"], fields.word("encoding_format", "float", "base64") or "float")
    return EmbeddingRequest(fields.text("model") or "", texts, encoding, fields.count("dimensions", 1) or 0)


def _refuse_what_none_can(fields: Fields) -> None:
    fields.refuse("chat_template", None, "is refused: a model is prompted by its own template alone")
    for penalty in ("frequency_penalty", "presence_penalty"):
        fields.refuse(penalty, 0, "is not implemented: use repetition_penalty")
    fields.refuse("logit_bias", {}, "is not implemented")


def _ways(fields: Fields, settings: GenerationSettings) -> Ways:
    options = fields.inner("stream_options")
    stream = fields.flag("stream")
    if options and not stream:
        raise fields.wrong("stream_options", "may be given only where stream is true")
    usage = bool(options and options.flag("include_usage"))
    return Ways(fields.text("model") or "", settings, fields.count("n", 1, MOST_CHOICES) or 1, stream, usage)


def _prompts(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    """Text, texts, token ids or lists of token ids."""
    given = fields.get("prompt")
    several = isinstance(given, list) and bool(given) and not _is_ids(given)
    prompts = given if several else [given]
    if not all(isinstance(each, str) or _is_ids(each) for each in prompts) or not all(prompts):
        raise fields.wrong("prompt", "must be text, token ids, or a list of such, and none may be empty")
    return tuple(each if isinstance(each, str) else tuple(each) for each in prompts)


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int and each >= 0 for each in value)
