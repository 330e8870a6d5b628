"""/health and /metrics: for those who look after the server. They know no model."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatcli.server.api.service import service_of


async def health(request: Request) -> Response:
    """That the server answers, and how busy it is."""
    admission = service_of(request).admission
    return JSONResponse({"status": "ok", "running": admission.running, "waiting": admission.waiting})


async def metrics(request: Request) -> Response:
    """The numbers for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4")
