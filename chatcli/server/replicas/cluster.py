"""Ray, started for ourselves or joined, with nothing of it open to anybody else.

Ray runs whatever code it is sent: a port of it is a shell. So its token is always asked for, its dashboard is off,
and a cluster of our own listens on loopback alone and keeps its files in a folder that nobody else can enter. It
knows no model; `start` must come before anything else imports ray, which reads its variables then.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import psutil

from chatcli.errors import EngineError, UsageError

if TYPE_CHECKING:
    from chatcli.models.plan.values import Device

_LONGEST = 40
"""Characters of the temporary folder: Ray's sockets are 60 longer, and the system takes 107."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    # Who asks Ray for something behind its end starts no other cluster.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_COLOR_PREFIX": "0",
    # What replicas say comes straight from them, for half of what it costs through Ray's store of objects.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Ports of metrics that nobody collects: any that is free, not always the same.
    "AUTOSCALER_METRIC_PORT": "0",
    "DASHBOARD_METRIC_PORT": "0",
}
_ALONE = {
    # Despite its name this holds on Linux, too: no cluster of several machines, hence loopback for every port.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_CONNECT_SECONDS = 5.0
_END_SECONDS = 5.0
_OBJECTS = 128 * 2**20
"""Bytes of shared memory for objects: events are small and travel without it."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is part of. `folder` is what is removed with it, None where it is not ours."""

    folder: Path | None

    @property
    def ours(self) -> bool:
        """Whether it was started here, on loopback, and ends with us."""
        return self.folder is not None


def start(replicas: int) -> Cluster:
    """A cluster of this machine alone, with room for so many replicas.

    Raises:
        UsageError: ray is not installed.
        EngineError: it does not start.
    """
    os.environ.update(_QUIET | _ALONE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    cores = max(os.cpu_count() or 1, replicas)
    try:
        return _started(cores)
    except EngineError:  # Ray gives its processes 30 seconds, which a busy machine may not have
        return _started(cores)


def _started(cores: int) -> Cluster:
    place = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="chatcli-ray-", dir=place if len(place) <= _LONGEST else "/tmp"))
    cluster = Cluster(folder)
    try:
        # Ray opens the folder to everybody, so it is one that lies in ours.
        _init(address="local", num_cpus=cores, include_dashboard=False, _temp_dir=str(folder / "ray"))
    except BaseException:  # Ctrl-C, too
        stop(cluster)
        raise
    return cluster


def join(address: str, variables: Mapping[str, str]) -> Cluster:
    """The cluster whose head is at `address`; the token comes from RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.

    Raises:
        UsageError: there is no token, or ray is not installed.
        EngineError: nobody answers there.
    """
    token = Path.home() / ".ray" / "auth_token"
    if not (variables.get("RAY_AUTH_TOKEN") or variables.get("RAY_AUTH_TOKEN_PATH") or token.exists()):
        raise UsageError(
            f"The cluster at {address} wants a token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to the file that "
            "has it. A cluster without one runs anybody's code; start it with RAY_AUTH_MODE=token."
        )
    _require_listening(address)
    os.environ.update(_QUIET)
    _init(address=address)
    return Cluster(None)


def stop(cluster: Cluster, asking: Lock | None = None) -> None:
    """Leave, and end what was started: no process and no file of it stays.

    Who holds `asking` asks Ray for something, and is given some seconds to hear that it ends: Ray itself ends a
    process, with exit code 1, in which something is asked of it after its end.
    """
    started = _processes(cluster.folder) if cluster.folder else []
    with suppress(ImportError), redirect_stdout(io.StringIO()):  # Ray reports there that it is being ended
        import ray
        from ray import serve

        if cluster.ours and ray.is_initialized():
            with suppress(Exception):  # it may be gone already
                serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's own
        _end_asking()
        if asking and asking.acquire(timeout=_END_SECONDS):
            asking.release()
        ray.shutdown()
    for each in started:  # some outlive Ray for seconds, all of them a start that was broken off
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(started, timeout=_END_SECONDS)
    if cluster.folder:
        shutil.rmtree(cluster.folder, ignore_errors=True)


def _end_asking() -> None:
    """Stop the loop in a thread in which Ray Serve's routers ask for what has changed, whether anybody listens or not.

    Serve has no public way to end that loop; the next router makes itself another.
    """
    with suppress(ImportError, AttributeError):  # another Ray
        from ray.serve._private.router import SingletonThreadRouter as Routers

        with Routers._asyncio_loop_creation_lock:
            loop, Routers._asyncio_loop = Routers._asyncio_loop, None
        if loop:
            loop.call_soon_threadsafe(loop.stop)
            end = time.monotonic() + _END_SECONDS
            while loop.is_running() and time.monotonic() < end:
                time.sleep(0.01)


def _processes(folder: Path) -> list[psutil.Process]:
    """Those that this process started to work in `folder`, with all that they started in turn."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(str(folder) in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _require_listening(address: str) -> None:
    """Raise at once where nobody listens: Ray tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--ray-address {address} is no address: write HOST:PORT, as `ray start` says it.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"No Ray cluster is at {address}: start it there with `ray start --head`.") from error


def _init(**options: Any) -> None:
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise UsageError("Replicas need Ray, which is not installed: pip install 'chatcli[ray]'.") from error
    logging.getLogger("ray").setLevel(logging.WARNING)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it warns of a dead replica once for every request
    if options["address"] == "local":
        options["object_store_memory"] = _OBJECTS
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, namespace="chatcli", **options)
        # HTTP is ours alone: no proxy of Ray Serve's listens anywhere.
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if options["address"] == "local":
            raise EngineError(f"Ray does not start: {first}") from error
        raise EngineError(
            f"The Ray cluster at {options['address']} cannot be joined: the token is another, or this machine is none "
            f"of the cluster's, which `ray start` makes it. Ray says: {first}"
        ) from error


def devices(cluster: Cluster, variables: Mapping[str, str]) -> tuple[Device, ...]:
    """What a replica can compute on: this machine's devices, or those of one of the cluster's that has GPUs."""
    import ray

    from chatcli.models import machine

    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's own
    if cluster.ours or not resources.get("GPU"):
        return machine.devices(variables)
    # Not those that Ray would show a task, but all of the machine's: none is taken for looking.
    looking = ray.remote(num_cpus=0, num_gpus=0.01)(machine.devices)
    found: tuple[Device, ...] = ray.get(looking.remote({}))
    return found
