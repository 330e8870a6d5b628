"""Ray Serve's side of the choice among replicas: a `RequestRouter` that asks `Beginnings`.

It is imported by name, in the process that answers HTTP; each such process knows what it has sent itself.
"""

from __future__ import annotations

from random import Random
from typing import Any

from ray.serve.request_router import MultiplexMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from chatcli.conversation import Conversation
from chatcli.server.replicas.beginnings import Beginning, Beginnings, of_conversation, of_prompt

PATH = f"{__name__}:BeginningsRouter"


class BeginningsRouter(MultiplexMixin, RequestRouter):
    """Sends a talk to the replica that has read most of it, unless that one has too much to do.

    Where replicas hold different models, only those count that hold the one that is asked, as long as some do.
    """

    def initialize_state(self, **_: Any) -> None:
        """Begin to know nothing; Ray calls this once."""
        self._read: Beginnings[ReplicaID] = Beginnings()
        self._random = Random()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The best replica, then two that were drawn, then all: the first whose queue is not full is taken."""
        candidates = candidate_replicas
        holding = None
        if pending_request and pending_request.metadata.multiplexed_model_id:
            holding = self.apply_multiplex_routing(pending_request)
            candidates = [self.curr_replicas[each] for each in holding if each in self.curr_replicas]
        elif pending_request:
            pending_request.routing_context.should_backoff = True
        if not candidates:
            return []

        def ongoing(replica: ReplicaID) -> float | None:
            if replica not in self.curr_replicas or (holding is not None and replica not in holding):
                return None
            return float(self.replica_queue_len_cache.get(replica) or 0)

        drawn = [self._random.choice(candidates) for _ in range(2)]
        best = self._read.choose(_prompt(pending_request), [each.replica_id for each in drawn], ongoing)
        return [[self.curr_replicas[best]], drawn, candidates]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remember who reads this prompt."""
        self._read.note(_prompt(pending_request), replica_id)


def _prompt(request: PendingRequest | None) -> list[Beginning]:
    """What a request gives a replica to read; nothing where it asks for something else, such as vectors."""
    match (request.metadata.call_method, request.args) if request else None:
        case ("stream", (str(model), Conversation() as conversation, *_)):
            return of_conversation(model, conversation)
        case ("complete", (str(model), (str() | tuple()) as prompt, *_)):
            return of_prompt(model, prompt)
    return []
