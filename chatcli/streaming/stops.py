"""Ends a reply before a stop string, wherever the string is cut between pieces.

Knows no tokens: a stop string may begin in one token and end three later.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the first stop string.

    The stop string that is complete first wins; of two that end with the same character, the longer.
    So generation can end at the earliest moment, and how the text is cut never matters. Empty stop
    strings are ignored.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._held = ""
        self._hit: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that is safe to show, and the stop string that ended the reply, if one did.

        What may still become a stop string is held back. After a hit, all further text is dropped.
        """
        if self._hit is not None:
            return "", self._hit
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self._hit = min(found)
            self._held = ""
            return text[:at], self._hit
        safe = len(text) - self._unsure(text)
        self._held = text[safe:]
        return text[:safe], None

    def flush(self) -> str:
        """What was held back, at the end of a reply that met no stop string."""
        held, self._held = self._held, ""
        return held

    def _unsure(self, text: str) -> int:
        """How many of the last characters are the beginning of a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
