"""What a request says of how to sample, how much to think and what form the answer is to have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chatcli.constraints import checked
from chatcli.errors import UsageError
from chatcli.generation import Constraint, Effort, GenerationSettings
from chatcli.openai.errors import ApiError
from chatcli.openai.fields import Fields

_MOST_STOPS = 16
_EFFORTS: Mapping[str, Effort | None] = {
    "none": None,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}


def sampling(fields: Fields) -> GenerationSettings:
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


def think(fields: Fields) -> bool | None:
    """Whether the model is to think: as the variable that templates have for it, or an effort of none."""
    variables = fields.inner("chat_template_kwargs")
    if variables and "enable_thinking" in variables:
        return variables.flag("enable_thinking")
    return False if fields.get("reasoning_effort") == "none" else None


def effort(fields: Fields) -> Effort | None:
    """How much the model is to think; of the API's efforts templates know three."""
    return _EFFORTS[fields.word("reasoning_effort", *_EFFORTS) or "none"]


def response_format(fields: Fields) -> Constraint | None:
    """What the answer is to conform to.

    Raises:
        ApiError: no answer can.
    """
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
