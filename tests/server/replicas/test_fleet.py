"""What is made of Ray's report that replicas did not start, and which models a replica holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatcli.engines.resident import specify
from chatcli.errors import BrokenCheckpoint, EngineError, OutOfMemory
from chatcli.load_request import NOTHING_SAID
from chatcli.models.checkpoint import Checkpoint
from chatcli.server.replicas.deployment import FAILED, Layout, Scale, _autoscaling, _resources
from chatcli.server.replicas.fleet import _reason
from chatcli.server.replicas.opening import Model
from chatcli.wire import Failure, encode


@pytest.mark.parametrize("error", [OutOfMemory("It needs 20.0 GB {or less}."), BrokenCheckpoint('"a" is\ncut off')])
def test_the_replicas_own_sentence_is_told(error: Exception) -> None:
    line = encode(Failure(type(error).__name__, str(error))).decode("ascii")
    report = f'Traceback ...\n  File "x.py", line 3\nRuntimeError: {FAILED}{line}\n\n  another {{thing}} happened'
    told = _reason(["Deploying.", report, "a RuntimeError"])
    assert (type(told), str(told)) == (type(error), str(error))


def test_without_one_it_is_rays() -> None:
    told = _reason(["", "The deployment failed."])
    assert isinstance(told, EngineError)
    assert "The deployment failed." in str(told)


@pytest.mark.parametrize(
    ("scale", "gpus", "held", "autoscales"), [((2, 2), 1, 2, False), ((1, 8), 2, 3, True), ((3, 3), 0, 1, False)]
)
def test_ray_is_told_what_a_replica_takes_and_when_there_are_more(
    scale: tuple[int, int], gpus: int, held: int, autoscales: bool, tmp_path: Path
) -> None:
    spec = specify(Checkpoint("m", tmp_path, "", {}, {}), NOTHING_SAID, tmp_path, {})
    layout = Layout(tuple((name, Model(spec, gpus=gpus)) for name in "ABC"), Scale(*scale), places=16)
    assert layout.held == held
    options = _resources(layout)["ray_actor_options"]
    assert options["num_gpus"] == gpus * held and options["num_cpus"] >= 1
    scaling = _autoscaling(layout)
    assert bool(scaling) == autoscales
    if scaling:  # by how many requests are under way: each should have half of what it can answer
        assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (1, 8, 8)


@pytest.mark.parametrize(
    ("models", "replicas", "shares"),
    [
        ("A", 2, ["A", "A"]),
        ("AB", 2, ["A", "B"]),
        ("ABC", 2, ["AB", "CA"]),
        ("ABC", 1, ["ABC"]),
        ("ABCDE", 2, ["ABC", "DEA"]),
        ("AB", 5, ["A", "B", "A", "B", "A"]),
    ],
)
def test_together_the_replicas_hold_every_model(
    models: str, replicas: int, shares: list[str], tmp_path: object
) -> None:
    spec = specify(Checkpoint("m", tmp_path, "", {}, {}), NOTHING_SAID, tmp_path, {})  # type: ignore[arg-type]
    layout = Layout(tuple((name, Model(spec)) for name in models), Scale(replicas, replicas))
    assert ["".join(layout.share(rank)) for rank in range(replicas)] == shares
    assert all(len(share) <= layout.held for share in shares)
