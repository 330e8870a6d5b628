"""What a client asks for: the JSON of a request as our values, whole and checked, or an error that names the field.

Fields that the API does not know are passed over, as it does; those that it knows and this server cannot honour are
refused unless they say what holds anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from chatcli.constraints import checked
from chatcli.conversation import Conversation, Tool
from chatcli.errors import UsageError
from chatcli.generation import Constraint, Effort, GenerationSettings
from chatcli.openai.errors import ApiError
from chatcli.openai.fields import Fields
from chatcli.openai.messages import conversation

MOST_CHOICES = 16
MOST_LOGPROBS = 20
"""Of likeliest tokens beside each, as the API allows."""
_MOST_STOPS = 16
_COMPLETION_TOKENS = 16
"""Length of an answer of /v1/completions where the request says none, as the API has it."""
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES = ("auto", "none", "required")
_EFFORTS: Mapping[str, Effort | None] = {
    "none": None,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}


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


def chat_request(body: object) -> ChatRequest:
    """A checked request for a chat completion.

    Raises:
        ApiError: it is none, or asks for what cannot be.
    """
    fields = Fields(body)
    _refuse_what_none_can(fields)
    for name in ("functions", "function_call"):
        fields.refuse(name, None, "is of an older API: use tools")
    fields.refuse("audio", None, "asks for sound, which this server has none of")
    fields.refuse("modalities", ["text"], "may only ask for text")
    talk = conversation(fields)
    tools = _tools(fields)
    talk = replace(talk, tools=tools, tool_choice=_tool_choice(fields, tools))
    logprobs = (fields.count("top_logprobs", 0, MOST_LOGPROBS) or 0) if fields.flag("logprobs") else None
    if logprobs is None and "top_logprobs" in fields:
        raise fields.wrong("top_logprobs", "needs logprobs to be true")
    longest = fields.count("max_completion_tokens", 1) or fields.count("max_tokens", 1)
    settings = replace(
        _sampling(fields),
        max_new_tokens=longest,
        top_logprobs=logprobs,
        constraint=_response_format(fields),
        think=_think(fields),
        reasoning_effort=_EFFORTS[fields.word("reasoning_effort", *_EFFORTS) or "none"],
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
        _sampling(fields),
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


def _sampling(fields: Fields) -> GenerationSettings:
    """What both APIs say of sampling; the long answer that does not fit is an error, no cut made unasked."""
    stops = fields.texts("stop", _MOST_STOPS)
    if stops is not None and not all(stops):
        raise fields.wrong("stop", "must hold no empty string")
    return GenerationSettings(
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        top_k=_top_k(fields),
        min_p=fields.number("min_p", 0, 1),
        repetition_penalty=fields.number("repetition_penalty", 0.01, 100),
        stop=stops,
        seed=_seed(fields),
        overflow="stop",
    )


def _top_k(fields: Fields) -> int | None:
    """How many of the likeliest tokens; others write -1 for all."""
    found = fields.count("top_k", -1)
    return 0 if found == -1 else found


def _seed(fields: Fields) -> int | None:
    """Any whole number, as the API allows, folded to what a generator takes."""
    found = fields.count("seed", -(1 << 63), (1 << 64) - 1)
    return None if found is None else found % (1 << 63)


def _think(fields: Fields) -> bool | None:
    """Whether the model is to think: as the variable that templates have for it, or an effort of none."""
    variables = fields.inner("chat_template_kwargs")
    if variables and "enable_thinking" in variables:
        return variables.flag("enable_thinking")
    return False if fields.get("reasoning_effort") == "none" else None


def _response_format(fields: Fields) -> Constraint | None:
    wanted = fields.inner("response_format")
    if wanted is None:
        return None
    wanted.required("type")
    kind = wanted.word("type", "text", "json_object", "json_schema")
    if kind == "text":
        return None
    schema: dict[str, Any] = {"type": "object"}
    if kind == "json_schema":
        wanted.required("json_schema")
        told = wanted.inner("json_schema") or wanted
        told.required("schema")
        if not isinstance(told.get("schema"), dict):
            raise told.wrong("schema", "must be a JSON object")
        schema = told.get("schema")
    try:
        return checked(Constraint("schema", json.dumps(schema, ensure_ascii=False)), "response_format")
    except UsageError as error:
        raise ApiError(400, str(error), param="response_format", code="invalid_schema") from error


def _tools(fields: Fields) -> tuple[Tool, ...]:
    tools = []
    for each in fields.objects("tools"):
        each.word("type", "function")
        each.required("function")
        function = each.inner("function") or each
        function.required("name")
        name = function.text("name") or ""
        if not _TOOL_NAME.fullmatch(name) or name in _CHOICES:
            raise function.wrong("name", "must be up to 64 of the letters a-z, A-Z, 0-9, _ and -, and no tool_choice")
        parameters = function.inner("parameters")
        schema = function.get("parameters") if parameters else {}
        tools.append(Tool(name, function.text("description") or "", json.dumps(schema, ensure_ascii=False)))
    return tuple(tools)


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> str:
    if "tool_choice" not in fields:
        return "auto"
    if not tools and fields.get("tool_choice") != "none":
        raise fields.wrong("tool_choice", "may be given only where there are tools")
    if isinstance(fields.get("tool_choice"), str):
        return fields.word("tool_choice", *_CHOICES) or "auto"
    chosen = fields.inner("tool_choice") or fields
    chosen.required("function")
    function = chosen.inner("function") or chosen
    function.required("name")
    name = function.text("name") or ""
    if name not in (tool.name for tool in tools):
        raise function.wrong("name", "must be the name of one of the tools")
    return name


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
