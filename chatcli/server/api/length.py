"""How long a prompt may be before anybody counts its tokens."""

from __future__ import annotations

from collections.abc import Iterable

from chatcli.openai.errors import ApiError


def require_fitting(texts: Iterable[str], context: int, bytes_per_token: int, param: str) -> None:
    """Pass over texts that may fit into `context` tokens; where that is 0, it is not known.

    Raises:
        ApiError: they cannot.
    """
    length = sum(len(text) for text in texts)
    if context and length > context * bytes_per_token:
        message = (
            f"This model's maximum context length is {context} tokens. However, you sent {length} characters. "
            "Please reduce their length."
        )
        raise ApiError(400, message, param=param, code="context_length_exceeded")
