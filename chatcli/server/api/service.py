"""What all routes share: the models, the limits, who is let in, the threads and the numbers. It knows no route."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.requests import Request

from chatcli.openai.errors import ApiError
from chatcli.server.api.admission import Admission
from chatcli.server.api.metrics import Metrics
from chatcli.server.api.served import Served


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all together, may take.

    `places` answers are under way at once and `queue` requests wait; `body` is in bytes; an answer, its waiting
    counted in, takes `seconds` at the most. Of a prompt, `bytes_per_token` times the model's context is looked at:
    what is longer cannot fit, and to count it would take long.
    """

    places: int = 16
    queue: int = 64
    body: int = 32 << 20
    seconds: float = 600.0
    bytes_per_token: int = 64


@dataclass(frozen=True)
class Service:
    """One server's parts."""

    models: Mapping[str, Served]
    limits: Limits
    metrics: Metrics
    admission: Admission
    pool: ThreadPoolExecutor = field(repr=False)

    def model(self, name: str) -> tuple[str, Served]:
        """The model of that name; a request that names none means the only one.

        Raises:
            ApiError: there is none.
        """
        if not name and len(self.models) == 1:
            return next(iter(self.models.items()))
        if not name:
            raise ApiError(400, "You must provide a model parameter.", param="model", code="missing_required_parameter")
        if name not in self.models:
            there = ", ".join(self.models)
            raise ApiError(
                404,
                f"The model '{name[:200]}' does not exist. There is: {there}.",
                param="model",
                code="model_not_found",
            )
        return name, self.models[name]


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
