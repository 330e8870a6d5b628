"""The application: which path leads where, and how every error is told.

`build_app` puts the parts together; none of them knows another by more than its type.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chatcli.openai.errors import ApiError
from chatcli.server.api.admission import Admission
from chatcli.server.api.chat import chat_completions
from chatcli.server.api.guard import Guard, Guarded
from chatcli.server.api.health import health, metrics
from chatcli.server.api.metrics import Metrics
from chatcli.server.api.models import list_models, one_model
from chatcli.server.api.served import Served
from chatcli.server.api.service import Limits, Service
from chatcli.server.api.telling import Told, error_response
from chatcli.server.api.texts import completions, detokenize, embeddings, tokenize

ROUTES: tuple[tuple[str, str, Callable[[Request], object]], ...] = (
    ("GET", "/v1/models", list_models),
    ("GET", "/v1/models/{name:path}", one_model),
    ("POST", "/v1/chat/completions", chat_completions),
    ("POST", "/v1/completions", completions),
    ("POST", "/v1/embeddings", embeddings),
    ("POST", "/tokenize", tokenize),
    ("POST", "/detokenize", detokenize),
    ("GET", "/health", health),
    ("GET", "/metrics", metrics),
)
"""Method, path and what answers it."""


def build_app(
    models: Mapping[str, Served],
    guard: Guard,
    limits: Limits | None = None,
    *,
    more_routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application that serves `models` by these names.

    `more_routes` are served beside the API, behind the same guard: the web page. The models are not closed with it.
    """
    limits = limits or Limits()
    admission = Admission(limits.places, limits.queue)
    service = Service(
        models,
        limits,
        Metrics(lambda: admission.running, lambda: admission.waiting),
        admission,
        ThreadPoolExecutor(limits.places, thread_name_prefix="answer"),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        service.pool.shutdown(wait=False, cancel_futures=True)

    routes = [*(Route(path, answer, methods=[method]) for method, path, answer in ROUTES), *more_routes]
    paths: dict[object, str] = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Told, service, paths), Middleware(Guarded, guard)],
        exception_handlers={HTTPException: _plain_error},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


async def _plain_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        told = ApiError(404, f"Invalid URL ({request.method} {request.url.path[:200]})", code="unknown_url")
    else:
        told = ApiError(error.status_code, f"{error.detail}.", code="method_not_allowed")
    response = error_response(told)
    response.headers.update(error.headers or {})
    return response
