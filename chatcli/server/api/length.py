"""How long a prompt may be before anybody counts its tokens."""

from __future__ import annotations

from collections.abc import Sequence

from chatcli.openai.errors import ApiError


def require_fitting(lengths: Sequence[int], context: int, bytes_per_token: int, param: str) -> None:
    """Pass over parts of so many characters that may fit into `context` tokens; where that is 0, it is not known.

    Each part is a message or a tool, and at least a token.

    Raises:
        ApiError: they cannot.
    """
    length = sum(lengths)
    if context and (length > context * bytes_per_token or len(lengths) > context):
        message = (
            f"This model's maximum context length is {context} tokens. However, you sent {length} characters"
            f"{f' in {len(lengths)} parts' if len(lengths) > 1 else ''}. Please reduce their length."
        )
        raise ApiError(400, message, param=param, code="context_length_exceeded")
