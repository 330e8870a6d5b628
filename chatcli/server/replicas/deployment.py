"""How Ray Serve is to run replicas: how many, where, which models in each, and when one is replaced.

It turns our values into a deployment; it starts nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ray import serve

from chatcli.errors import ChatcliError
from chatcli.server.replicas.opening import Model, open_model
from chatcli.server.replicas.replica import Holding, Replica
from chatcli.server.replicas.router import PATH
from chatcli.wire import Failure, encode

DRAIN_SECONDS = 600.0
"""How long a replica that is replaced may take for the answers that it is giving."""
_BESIDE = 4
"""Requests that a replica takes beyond its places: the next answers, and questions that take no place."""
FAILED = "chatcli could not open a model: "
"""Before the line of `wire` that says why, in what Ray reports of a replica that did not start."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas: `least` to `most`, by how many requests are under way; where both are one number, so many."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Which models are served, by their names, by how many replicas; each gives `places` answers at a time."""

    models: tuple[tuple[str, Model], ...]
    scale: Scale
    places: int = 16

    @property
    def names(self) -> tuple[str, ...]:
        """By what the models are asked for."""
        return tuple(name for name, _ in self.models)

    @property
    def held(self) -> int:
        """Models in one replica: so few that together the least number of replicas holds each once."""
        return -(-len(self.models) // self.scale.least)

    def share(self, rank: int) -> tuple[str, ...]:
        """What the replica of this rank opens when it starts; what else it is asked for replaces one of these."""
        begin = rank * self.held
        return tuple(dict.fromkeys(self.names[(begin + n) % len(self.names)] for n in range(self.held)))


def deployment(layout: Layout, *, loopback: bool) -> serve.Application:
    """The application that Ray Serve runs. With `loopback` nothing of it listens for other machines."""

    class ServedReplica(Replica):
        async def __init__(self) -> None:  # type: ignore[misc]  # Ray Serve awaits it
            super().__init__(lambda name: open_model(dict(layout.models)[name]), layout.places)
            if loopback:
                _keep_to_loopback()
            for name in layout.share(serve.get_replica_context().rank.rank):
                await self.model(name)

        @serve.multiplexed(max_num_models_per_replica=layout.held)  # type: ignore[untyped-decorator]
        async def model(self, name: str) -> Holding:
            try:
                return await super().model(name)
            except ChatcliError as error:
                raise RuntimeError(FAILED + encode(Failure.of(error)).decode("ascii")) from error

    made: Any = serve.deployment(
        name="replicas",
        max_ongoing_requests=layout.places + _BESIDE,
        autoscaling_config=_autoscaling(layout),
        num_replicas=None if layout.scale.most > layout.scale.least else layout.scale.least,
        request_router_config={"request_router_class": PATH},
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        max_constructor_retry_count=2,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
        **_resources(layout),
    )
    application: serve.Application = made(ServedReplica).bind()
    return application


def _resources(layout: Layout) -> dict[str, Any]:
    """What a replica takes of a machine, or of several, by which Ray finds it a place."""
    division = layout.models[0][1].division
    if division and division.gpus > 1:  # vLLM's workers are processes of their own, a GPU for each, near each other
        bundles = [{"CPU": 1, "GPU": 1}, *[{"GPU": 1}] * (division.gpus - 1)]
        return {"ray_actor_options": {"num_cpus": 1}, "placement_group_bundles": bundles}
    gpus = [model.division.gpus if model.division else model.gpus for _, model in layout.models]
    needed = sorted(gpus, reverse=True)[: layout.held]
    cores = 1 if sum(needed) else max((os.cpu_count() or 1) // layout.scale.most, 1)
    return {"ray_actor_options": {"num_gpus": sum(needed), "num_cpus": cores}}


def _autoscaling(layout: Layout) -> dict[str, float] | None:
    scale = layout.scale
    if scale.most == scale.least:
        return None
    return {
        "min_replicas": scale.least,
        "initial_replicas": scale.least,
        "max_replicas": scale.most,
        "target_ongoing_requests": layout.places / 2,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
    }


def _keep_to_loopback() -> None:
    """Have the port that Ray Serve opens in every replica, which takes the token, be for this machine alone."""
    import grpc  # type: ignore[import-untyped]  # it has stubs in a package of their own

    made = type(grpc.aio.server())
    opened = made.add_insecure_port
    made.add_insecure_port = lambda self, address: opened(self, address.replace("[::]:", "127.0.0.1:"))
