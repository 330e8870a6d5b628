"""All replicas of all models of one server: started, updated one after the other, and ended.

It knows Ray Serve and names of models; no request, and nothing of what is in a replica.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from chatcli.errors import ChatcliError, EngineError
from chatcli.generation import EngineFacts
from chatcli.server.api.served import Served
from chatcli.server.replicas import cluster
from chatcli.server.replicas.deployment import FAILED, Layout, deployment
from chatcli.server.replicas.served import Loop, ReplicatedModel
from chatcli.sockets import name_of
from chatcli.wire import Failure, decode


class Fleet:
    """Replicas in a cluster; `models` are what is served, by name.

    A server that finds just these replicas in a cluster already, for another one like it, asks them, too: so there may
    be as many servers as the traffic needs. The first one ends them.
    """

    def __init__(self, place: cluster.Cluster, layout: Layout) -> None:
        self._place = place
        self._layout = layout
        self._app = f"chatcli-{name_of(repr(layout))}"
        self._loop = Loop()
        self._updating, self._closing = Lock(), False
        self._found = self._running()
        self._handle: Any = None
        try:
            self._handle = self._found or self._deploy()
        except BaseException:
            self._withdraw()
            raise
        self.models: Mapping[str, Served] = {
            name: ReplicatedModel(name, self._asking(name), self._loop, self._facts(name)) for name in layout.names
        }

    def update(self) -> None:
        """Replace the replicas, a few at a time, by such that open the models anew; nobody who asks notices.

        Raises:
            ChatcliError: the new ones cannot open a model; the old ones that were not replaced yet answer still.
        """
        with self._updating:
            try:
                self._deploy()
            except Exception as error:
                if self._closing:  # Ray is ended under it
                    raise EngineError("the server ends.") from error
                raise

    def close(self) -> None:
        """End the replicas, and Ray where it was started for them."""
        self._closing = True
        self._withdraw()
        cluster.stop(self._place, self._updating)

    def _withdraw(self) -> None:
        """End what was begun here; a cluster of our own ends with all that is in it."""
        from ray import serve

        self._loop.close()
        if self._handle:
            self._handle.shutdown()
        if not (self._place.ours or self._found):
            serve.delete(self._app)

    def _running(self) -> Any:
        """The handle of the application where it runs already; None where it does not."""
        from ray import serve

        there = serve.status().applications.get(self._app)
        return serve.get_app_handle(self._app) if there and there.status == "RUNNING" else None

    def _deploy(self) -> Any:
        """The handle of the application, whose replicas are there.

        Raises:
            ChatcliError: what kept them from opening a model.
        """
        from ray import serve

        app = deployment(self._layout, loopback=self._place.ours)
        try:
            return serve.run(app, name=self._app, route_prefix=None)
        except RuntimeError as error:
            there = serve.status().applications.get(self._app)
            told = [there.message, *(each.message for each in there.deployments.values())] if there else []
            raise _reason([*told, str(error)]) from error

    def _asking(self, name: str) -> Any:
        """The handle that asks for one model."""
        return self._handle.options(multiplexed_model_id=name) if len(self._layout.models) > 1 else self._handle

    def _facts(self, name: str) -> EngineFacts:
        facts: EngineFacts = self._asking(name).options(method_name="facts").remote(name).result()
        return facts


def _reason(told: Sequence[str]) -> ChatcliError:
    """Why replicas did not start, out of what Ray says of it."""
    for text in told:
        _, found, rest = text.partition(FAILED)
        if found:
            line, _ = json.JSONDecoder().raw_decode(rest)
            failure: Failure = decode(json.dumps(line))
            return failure.error
    return EngineError(f"The replicas do not start: {told[-1]}")
