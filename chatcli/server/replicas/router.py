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
        """The best replica first, and behind it the others: the first whose queue is not full is taken."""
        by_id = {replica.replica_id: replica for replica in candidate_replicas}
        if pending_request and pending_request.metadata.multiplexed_model_id:
            holding = self.apply_multiplex_routing(pending_request)
            by_id = {each: by_id[each] for each in holding if each in by_id} or by_id
        elif pending_request:
            pending_request.routing_context.should_backoff = True
        if not by_id:
            return []
        ongoing = {each: float(self.replica_queue_len_cache.get(each) or 0) for each in by_id}
        best = self._read.choose(_prompt(pending_request), ongoing, self._random)
        return [[by_id[best]], [replica for each, replica in by_id.items() if each != best]]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remember who reads this prompt."""
        self._read.note(_prompt(pending_request), replica_id)


def _prompt(request: PendingRequest | None) -> list[Beginning]:
    """What a request gives a replica to read; nothing for one that is none, such as embeddings."""
    match request.args if request else ():
        case (str(model), Conversation() as conversation, *_):
            return of_conversation(model, conversation)
        case (str(model), (str() | tuple()) as prompt, *_):
            return of_prompt(model, prompt)
    return []
