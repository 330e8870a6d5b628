"""What the server counts, in the format of Prometheus; of what is said it knows nothing but the number of tokens."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS_TO_FIRST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The numbers of one server; `text` tells them all."""

    def __init__(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("chatcli_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "chatcli_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter("chatcli_prompt_tokens", "Tokens of prompts.", ["model"], registry=registry)
        self.cached_tokens = Counter(
            "chatcli_cached_prompt_tokens", "Of these, tokens that were not read again.", ["model"], registry=registry
        )
        self.completion_tokens = Counter("chatcli_completion_tokens", "Tokens written.", ["model"], registry=registry)
        self.cancelled = Counter("chatcli_cancelled", "Answers that a client left.", ["model"], registry=registry)
        self.seconds_to_first = Histogram(
            "chatcli_first_token_seconds",
            "From a request to the first of its answer, waiting counted in.",
            ["model"],
            buckets=_SECONDS_TO_FIRST,
            registry=registry,
        )
        Gauge("chatcli_running", "Answers under way.", registry=registry).set_function(running)
        Gauge("chatcli_waiting", "Requests that wait.", registry=registry).set_function(waiting)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
