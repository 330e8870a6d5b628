"""Server-sent events out of bytes, wherever these are cut.

As https://html.spec.whatwg.org/multipage/server-sent-events.html has them, and what servers make of that: JSON on a
line of its own, a last event without its empty line, errors in a field `error`. It knows no JSON's meaning.
"""

from __future__ import annotations

LONGEST = 8 << 20
"""Bytes of one event: a whole answer in one piece is far shorter."""


class EventStream:
    """Takes bytes and gives the data of the events that are whole."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_return = False
        self._data: list[str] = []
        self._held = 0
        self._begun = False

    def push(self, data: bytes) -> list[str]:
        """The events that end within `data`.

        Raises:
            ValueError: a line or an event is longer than any should be.
        """
        found: list[str] = []
        if self._after_return and data:
            data = data.removeprefix(b"\n")  # the other half of a \r\n
            self._after_return = False
        if b"\n" in data or b"\r" in data:
            self._after_return = data.endswith(b"\r")
            whole = (bytes(self._line) + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            *lines, rest = whole.split(b"\n")
            self._line = bytearray(rest)
            for line in lines:
                self._take(line, found)
        else:
            self._line += data
        if len(self._line) + self._held > LONGEST:
            raise ValueError("an event without an end")
        return found

    def flush(self) -> list[str]:
        """What the end of the stream makes whole."""
        found: list[str] = []
        if self._line:
            self._take(bytes(self._line), found)
            self._line.clear()
        self._dispatch(found)
        return found

    def _take(self, line: bytes, found: list[str]) -> None:
        text = line.decode("utf-8", "replace")
        if not self._begun:
            text, self._begun = text.removeprefix("\ufeff"), True
        if not text:
            self._dispatch(found)
        elif text.startswith("{"):  # JSON without its field
            self._dispatch(found)
            found.append(text)
        else:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
                self._held += len(line)
            elif name == "error":
                self._dispatch(found)
                found.append('{"error": ' + value + "}")

    def _dispatch(self, found: list[str]) -> None:
        if self._data:
            found.append("\n".join(self._data))
            self._data, self._held = [], 0
