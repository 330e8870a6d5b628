"""A model as it travels to where a replica is, and how it is opened there.

A machine of a cluster has its own disk: files are looked for where the server found them, and a model of the Hub is
fetched where they are not. It knows no Ray.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli import guide
from chatcli.errors import ModelNotFound
from chatcli.generation import Progress
from chatcli.models.checkpoint import Checkpoint, open_checkpoint
from chatcli.server.api.served import Served
from chatcli.server.replicas.placement import Division
from chatcli.wire import Spec

if TYPE_CHECKING:
    from chatcli.adapters.table import Table


@dataclass(frozen=True, slots=True)
class Model:
    """What a replica must open: the checkpoint and how it is run, by which engine, under which rows of one's own.

    `adapters` is the text of a person's adapters.toml. `gpus` are those that the model's own engine needs; `division`
    is how vLLM, where it is to, spreads it.
    """

    spec: Spec
    adapters: str = ""
    gpus: int = 0
    division: Division | None = None


def open_model(model: Model) -> Served:
    """Load the model on this machine.

    Raises:
        ModelError: it is not here and cannot be fetched, or is damaged.
        OutOfMemory: it does not fit.
    """
    checkpoint, table = _checkpoint(model.spec), _table(model.adapters)
    if model.division:
        from chatcli.engines.vllm import open_vllm

        return open_vllm(checkpoint, table, model.spec.request, model.division.tensor, model.division.pipeline)
    from chatcli.engines.served import open_served

    return open_served(checkpoint, table, _silent, model.spec.request)


def _checkpoint(spec: Spec) -> Checkpoint:
    from chatcli.engines.resident import specified
    from chatcli.models.hub import resolve

    if Path(spec.path).exists():
        return specified(spec)
    if spec.name == guide.NAME:
        return open_checkpoint(guide.folder(), guide.NAME)
    if not spec.revision or spec.loras:
        raise ModelNotFound(
            f"{spec.path} is not on {os.uname().nodename}: a folder must be at the same place on every machine of the "
            "cluster; a model of the Hub is fetched."
        )
    return resolve(spec.name, revision=spec.revision, variables=os.environ)


def _table(adapters: str) -> Table:
    from chatcli.adapters.table import load_table

    with tempfile.TemporaryDirectory() as folder:
        if adapters:
            (Path(folder) / "adapters.toml").write_text(adapters, encoding="utf-8")
        return load_table(Path(folder))


def _silent(progress: Progress) -> None:
    """Nobody watches a replica load."""
