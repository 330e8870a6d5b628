"""The answer of /v1/embeddings: vectors as lists of numbers or in base64, cut where the request says so.

It knows numbers; how they come to be, and how they travel, it does not know.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import ClassVar, Literal

from chatcli.generation import Event, Finished
from chatcli.openai.answers import Json, Said
from chatcli.openai.errors import ApiError


class EmbeddingAnswer:
    """Told whole. Of each vector the first `dimensions`, brought to length 1 again; 0 is all of them."""

    prompt: ClassVar[str] = "input"

    def __init__(self, model: str, encoding: Literal["float", "base64"], dimensions: int) -> None:
        self._model = model
        self._encode = _base64 if encoding == "base64" else list
        self._dimensions = dimensions

    def first(self, choice: int) -> Json | None:
        """Nothing."""
        return None

    def chunk(self, choice: int, event: Event) -> Json | None:
        """Nothing."""
        return None

    def last(self, ends: Sequence[Finished]) -> Json | None:
        """Nothing."""
        return None

    def whole(self, choices: Sequence[Said]) -> Json:
        """All vectors, and how many tokens the texts have.

        Raises:
            ApiError: the vectors have fewer dimensions than were asked for.
        """
        said = choices[0]
        size = len(said.vectors[0])
        if self._dimensions > size:
            message = f"This model's vectors have {size} dimensions, and cannot have {self._dimensions}."
            raise ApiError(400, message, param="dimensions", code="invalid_value")
        tokens = said.finished.prompt_tokens
        return {
            "object": "list",
            "model": self._model,
            "data": [
                {"object": "embedding", "index": index, "embedding": self._encode(_cut(vector, self._dimensions))}
                for index, vector in enumerate(said.vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def _cut(vector: Sequence[float], dimensions: int) -> Sequence[float]:
    if dimensions in (0, len(vector)):
        return vector
    first = vector[:dimensions]
    length = math.hypot(*first) or 1.0
    return [each / length for each in first]


def _base64(vector: Sequence[float]) -> str:
    """Little-endian floats of four bytes, which the official clients ask for."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
