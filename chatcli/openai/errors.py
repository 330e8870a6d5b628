"""Errors as the OpenAI API tells them: a status, and a JSON object that says what is wrong and where.

Source: https://platform.openai.com/docs/guides/error-codes, and what the API answers. It knows no HTTP server.
"""

from __future__ import annotations

from typing import Any

from chatcli import errors
from chatcli.generation import EngineFacts


class ApiError(Exception):
    """A request that gets no answer, with its HTTP status.

    `param` is the request's field that is wrong, `code` a word for programs, `retry_after` in seconds.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it; the official clients heed when, and whether, to try again."""
        retry = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        key = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return {**retry, **key, "X-Should-Retry": "true" if retry else "false"}


_TYPES = {401: "authentication_error", 403: "permission_error", 408: "timeout_error", 429: "rate_limit_error"}


def api_error(error: errors.ChatcliError, model: str, facts: EngineFacts, param: str) -> ApiError:
    """An engine's error as a client is told that asked for `model`; `param` is the field with the prompt.

    What was asked for wrongly is said as it is, but for the model's own name, which may be a folder. Of the machine's
    troubles only the kind is told: their sentences are for the machine's owner, and may name files.
    """
    match error:
        case errors.ContextOverflow(tokens=tokens):
            room = ", and the answer needs room beside them" if tokens < facts.context else ""
            counted = f" However, you sent {tokens} tokens{room}." if tokens else ""
            message = f"This model's maximum context length is {facts.context} tokens.{counted} Please send fewer."
            return ApiError(400, message, param=param, code="context_length_exceeded")
        case errors.UsageError():
            return ApiError(400, str(error).replace(facts.model, model) if facts.model else str(error))
        case errors.OutOfMemory():
            return ApiError(503, "The server's memory is too small for this request.", code="out_of_memory")
        case _:
            return ApiError(500, "The model failed while answering.", code="engine_error")
