"""What goes out to a client: JSON whole, or server-sent events one by one. It knows no answer, only how one travels."""

from __future__ import annotations

import json
import time

from starlette.responses import JSONResponse
from starlette.types import Send

from chatcli.openai.answers import Json

KEEP_ALIVE = 10.0
"""Seconds without a word after which a stream says that it is alive."""


class EventSender:
    """Server-sent events to one client; their head goes out with the first."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._last = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Send it; where it is empty, and nothing was sent for a while, a comment that clients pass over."""
        if not data:
            if time.monotonic() - self._last < KEEP_ALIVE:
                return
            data = b": alive\n\n"
        self._last = time.monotonic()
        if not self.started:
            self.started = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """There is no more."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class JsonResponse(JSONResponse):
    """JSON in which half a character, from a tokenizer's odd piece, breaks nothing."""

    def render(self, content: object) -> bytes:
        """The bytes."""
        return _json(content)


def event_data(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + _json(value) + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
