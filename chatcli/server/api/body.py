"""A request's body: JSON, not too long, and read as what it should be in a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from chatcli.openai.errors import ApiError
from chatcli.openai.fields import is_too_deep
from chatcli.server.api.service import service_of

Asked = TypeVar("Asked")
SECONDS = 60.0
"""How long a client may take to send a request."""


async def read(request: Request, parse: Callable[[object], Asked]) -> Asked:
    """What `parse` makes of the JSON of the body; pictures and schemas in it take their time elsewhere.

    Raises:
        ApiError: it is no JSON, too long, or not what it should be.
    """
    # A page of another site can send nothing of this type without asking first, and is not answered.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "The request's Content-Type must be application/json.", code="unsupported_media_type")
    body = await _body(request, service_of(request).limits.body)
    return await run_in_threadpool(lambda: parse(_decoded(body)))


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    try:
        with anyio.fail_after(SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise ApiError(413, f"The request is longer than {most >> 20} MiB.", code="request_too_large")
    except TimeoutError as error:
        raise ApiError(408, f"The request did not come whole within {SECONDS:.0f} seconds.") from error
    return bytes(body)


def _decoded(body: bytes) -> object:
    try:
        value = json.loads(body.decode("utf-8-sig"))  # of bytes it takes half a character, too
        if not is_too_deep(value):
            if b"\\ud" in body or b"\\uD" in body:  # of half a character no tokenizer knows what to do
                value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
            return value
        reason = "it is nested too deeply"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError:
        reason = "it cannot be parsed"
    raise ApiError(400, f"The body of your request is not valid JSON: {reason}.", code="invalid_json")
