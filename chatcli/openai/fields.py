"""The fields of one JSON object in a request, read by name and kind.

What is wrong is said as the API says it, with the field's place in the request. A null is a field left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chatcli.openai.errors import ApiError

DEEPEST = 100
"""Objects and lists within each other; deeper ones would break what walks through them, templates and grammars."""


class Fields:
    """A JSON object at a place in the request, such as "messages[0]"; empty for the request itself."""

    def __init__(self, values: object, place: str = "") -> None:
        self.place = place
        if not isinstance(values, Mapping):
            raise self._invalid(place or None, f"{place or 'The request'} must be a JSON object.")
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def get(self, name: str) -> Any:
        """The value as it stands, or None."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """A string."""
        value: str | None = self._of(name, str, "a string")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false where it is left out."""
        return bool(self._of(name, bool, "true or false"))

    def number(self, name: str, least: float, most: float = math.inf) -> float | None:
        """A number from `least` to `most`."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.wrong(name, "must be a number")
        if not least <= value <= most:
            upper = f" and at most {most:g}" if most < math.inf else ""
            raise self.wrong(name, f"must be at least {least:g}{upper}, and is {value:g}")
        return float(value)

    def count(self, name: str, least: int, most: int | None = None) -> int | None:
        """A whole number from `least` to `most`."""
        value = self.get(name)
        if isinstance(value, float) and not value.is_integer():
            raise self.wrong(name, "must be a whole number")
        checked = self.number(name, least, math.inf if most is None else most)
        return None if checked is None else int(value)

    def word(self, name: str, *words: str) -> str | None:
        """One of `words`."""
        value = self.text(name)
        if value is not None and value not in words:
            raise self.wrong(name, f"must be one of {', '.join(words)}")
        return value

    def inner(self, name: str) -> Fields | None:
        """A JSON object."""
        value = self.get(name)
        return None if value is None else Fields(value, self.at(name))

    def objects(self, name: str) -> list[Fields]:
        """A list of JSON objects; empty where it is left out."""
        values = self._of(name, list, "a list") or []
        return [Fields(value, f"{self.at(name)}[{index}]") for index, value in enumerate(values)]

    def texts(self, name: str, most: int) -> tuple[str, ...] | None:
        """A string, or a list of up to `most` strings."""
        value = self.get(name)
        if value is None:
            return None
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise self.wrong(name, "must be a string or a list of strings")
        if len(texts) > most:
            raise self.wrong(name, f"may hold at most {most} strings")
        return tuple(texts)

    def required(self, name: str) -> None:
        """Pass over a field that is there.

        Raises:
            ApiError: it is not.
        """
        if name not in self:
            param = self.at(name)
            raise self._invalid(param, f"Missing required parameter: '{param}'.", "missing_required_parameter")

    def refuse(self, name: str, unless: object, reason: str) -> None:
        """Pass over a field that is left out or says what holds anyway.

        Raises:
            ApiError: it says something else, which this server cannot do.
        """
        if name in self and self.get(name) != unless:
            raise self._invalid(
                self.at(name), f"Unsupported parameter: '{self.at(name)}' {reason}.", "unsupported_parameter"
            )

    def wrong(self, name: str, what: str) -> ApiError:
        """The error for a field that is not what it `must be`."""
        return self._invalid(self.at(name), f"Invalid value: '{self.at(name)}' {what}.", "invalid_value")

    def at(self, name: str) -> str:
        """The place of a field in the whole request."""
        return f"{self.place}.{name}" if self.place else name

    def _of(self, name: str, kind: type, what: str) -> Any:
        value = self.get(name)
        if value is not None and not isinstance(value, kind):
            raise self._invalid(
                self.at(name), f"Invalid type for '{self.at(name)}': it must be {what}.", "invalid_type"
            )
        return value

    def _invalid(self, param: str | None, message: str, code: str | None = None) -> ApiError:
        return ApiError(400, message, param=param, code=code)


def is_too_deep(value: object) -> bool:
    """Whether more than `DEEPEST` objects and lists are within each other."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _is_finite(value: float) -> bool:
    """Whether a number of JSON, whose digits have no end, is one that a float holds."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
