"""Errors become answers, and answers are counted; it knows no route but by its name."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatcli.openai.errors import ApiError
from chatcli.server.api.defects import tell_of
from chatcli.server.api.sending import JsonResponse
from chatcli.server.api.service import Service


class Told:
    """The application whose every error is an answer, and whose every answer is counted.

    `paths` names what answers: the paths that clients make up would be names without end.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: Mapping[object, str]) -> None:
        self._app = app
        self._service = service
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the request answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:  # in the middle of its request
            pass
        except Exception as error:
            failure = error if isinstance(error, ApiError) else _unforeseen(error)
            if not status:
                await error_response(failure)(scope, receive, noting)
        finally:
            route = self._paths.get(scope.get("endpoint"), "other")
            self._service.metrics.requests.labels(route, str(status or 499)).inc()  # 499: the client left before
            self._service.metrics.seconds.labels(route).observe(time.monotonic() - begun)


def _unforeseen(error: Exception) -> ApiError:
    tell_of(error)
    return ApiError(500, "The server had an error while processing your request.")


def error_response(error: ApiError) -> Response:
    """What the client is sent."""
    return JsonResponse(error.body, error.status, error.headers)
