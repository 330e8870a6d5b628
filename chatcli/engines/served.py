"""Which engine a checkpoint is served by: one that answers many at once, or one that makes vectors.

It knows what the checkpoint is for, and opens nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatcli.adapters.table import Table
from chatcli.engines.concurrent import ConcurrentEngine, open_concurrent
from chatcli.engines.embedding import EmbeddingEngine, open_embedding
from chatcli.load_request import NOTHING_SAID, LoadRequest
from chatcli.models.checkpoint import Checkpoint, makes_vectors

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report


def open_served(
    checkpoint: Checkpoint, table: Table, report: Report, request: LoadRequest = NOTHING_SAID
) -> ConcurrentEngine | EmbeddingEngine:
    """Load `checkpoint` for many who ask at once; one that was made for vectors gives these alone.

    Raises:
        ModelError: it is for something else, is damaged, or needs code of its own.
        OutOfMemory: it does not fit.
    """
    if makes_vectors(checkpoint):
        return open_embedding(checkpoint, report, request)
    return open_concurrent(checkpoint, table, report, request)
