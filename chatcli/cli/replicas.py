"""`chatcli serve --replicas`: models in processes, and on machines, of their own.

The wiring of names, files, GPUs and Ray; it knows no HTTP.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from chatcli.errors import ChatcliError, OutOfMemory, UsageError
from chatcli.generation import Progress

if TYPE_CHECKING:
    from chatcli.cli.options import Talk
    from chatcli.config import Config
    from chatcli.engines.deferred import Report
    from chatcli.environment import Environment
    from chatcli.models.plan.values import Device
    from chatcli.server.replicas.cluster import Cluster
    from chatcli.server.replicas.fleet import Fleet
    from chatcli.server.replicas.opening import Model

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
ENGINES = ("local", "vllm")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says of replicas: at least and at most so many, where, by which engine."""

    least: int
    most: int
    address: str
    engine: str


def wanted(models: int, replicas: str, address: str, engine: str) -> Wanted | None:
    """What `--replicas`, `--ray-address` and `--engine` say of so many models; None where they run in this process.

    Raises:
        UsageError: one of them cannot be.
    """
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine}: it is {' or '.join(ENGINES)}.")
    if not replicas and not address and engine == "local":
        return None
    found = _RANGE.fullmatch(replicas or "1")
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise UsageError(f"--replicas {replicas} is no number of replicas: write 2, or 1-8 for as many as are needed.")
    if engine == "vllm" and models > 1:
        raise UsageError("--engine vllm runs one model: serve one at a time.")
    return Wanted(least, most, address, engine)


def open_fleet(
    names: Mapping[str, str],
    said: Wanted,
    places: int,
    config: Config,
    environment: Environment,
    talk: Talk,
    report: Report,
) -> Fleet:
    """The models, by the names that clients have for them, in replicas of `places` answers each, which are ready.

    Raises:
        ChatcliError: a model cannot be had or does not fit, or Ray is not there.
    """
    from chatcli.server.replicas import cluster  # before anything that imports ray

    if said.engine == "vllm" and not said.address:
        _require_vllm_here(environment)
    report(Progress("starting"))
    joined = cluster.join(said.address, environment.variables) if said.address else cluster.start(said.most)
    try:
        from chatcli.server.replicas.deployment import Layout, Scale
        from chatcli.server.replicas.fleet import Fleet

        devices = cluster.devices(joined, environment.variables)
        models = tuple(
            (name, _model(model, said, devices, joined, config, environment, talk, report))
            for name, model in names.items()
        )
        report(Progress("loading"))
        return Fleet(joined, Layout(models, Scale(said.least, said.most), places))
    except BaseException:
        cluster.stop(joined)
        raise


def _require_vllm_here(environment: Environment) -> None:
    """Refuse before Ray is started, which takes some seconds, what could not run behind it.

    Raises:
        UsageError: vLLM is not installed.
        OutOfMemory: there is no GPU for it.
    """
    from chatcli.models.machine import devices

    if not any(each.kind == "cuda" for each in devices(environment.variables)):
        raise OutOfMemory("vLLM computes on GPUs of NVIDIA's, and there is none: leave --engine vllm out.")
    if not find_spec("vllm"):
        raise UsageError("--engine vllm needs vLLM: pip install 'chatcli[vllm]'.")


def update_on_signal(fleet: Fleet, environment: Environment) -> None:
    """Have SIGUSR1 replace the replicas, a few at a time, by such that open the models' files anew."""

    def update() -> None:
        environment.warn("chatcli: the replicas are being replaced.")
        try:
            fleet.update()
        except ChatcliError as error:
            environment.warn(f"chatcli: the replicas are not all replaced: {error}")
        else:
            environment.warn("chatcli: the replicas are replaced.")

    if hasattr(signal, "SIGUSR1"):  # not SIGHUP, which is what a terminal sends when it is closed
        signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=update, daemon=True).start())


def _model(
    name: str,
    said: Wanted,
    devices: tuple[Device, ...],
    joined: Cluster,
    config: Config,
    environment: Environment,
    talk: Talk,
    report: Report,
) -> Model:
    """One model as it travels to the replicas."""
    from chatcli.adapters.table import adapters_file
    from chatcli.cli.consent import agree_on_code
    from chatcli.cli.opening import located, named_parts
    from chatcli.engines.resident import specify
    from chatcli.models.weights import weights as read_weights
    from chatcli.server.replicas.opening import Model
    from chatcli.server.replicas.placement import divided, gpus_needed

    if talk.trust:
        agree_on_code(named_parts(name, config)[0], config, environment, talk.revision)
    request = config.load_request(revision=talk.revision, subfolder=talk.subfolder)
    checkpoint, request = located(name, config, environment, report, request)
    own = adapters_file(environment.config_folder)
    spec = specify(checkpoint, request, environment.config_folder, environment.variables)
    rows = own.read_text(encoding="utf-8-sig") if own.is_file() else ""
    weights = read_weights(checkpoint)
    if said.engine == "vllm":
        gpus = [each for each in devices if each.kind == "cuda"]
        return Model(spec, rows, division=divided(checkpoint.config, weights.bytes, gpus))
    copies = said.most if joined.ours else 1
    return Model(spec, rows, gpus_needed(checkpoint, weights, devices, request, copies))
