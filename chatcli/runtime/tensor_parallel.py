"""One model in several processes that torchrun started, each with its slice of every layer.

Rank 0 leads: it alone knows the talk, samples and prints. The others follow: they load what it loads and compute
what it computes, told by broadcasts over gloo, which also end them when it is gone. The slices are transformers'
`tp_plan`; this module knows no text.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from chatcli.errors import ChatcliError, EngineError, UsageError
from chatcli.models.checkpoint import Checkpoint, text_config
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import Weights
from chatcli.runtime.kv import CACHE, cut, growing_cache
from chatcli.torchrun import processes

PATIENCE = timedelta(days=20)
"""A person may think so long before the next question; below 2**31 ms, which gloo's sockets count in."""
MEETING_SECONDS = 60.0
_KEY = "chatcli/leader"
_JOIN, _LEAVE = b"join", b"leave"


@dataclass(frozen=True, slots=True)
class _Open:
    """Load this under that number."""

    number: int
    checkpoint: Checkpoint
    weights: Weights
    plan: LoadPlan


@dataclass(frozen=True, slots=True)
class _Step:
    """One forward pass, with a cache that holds `kept` tokens before it."""

    number: int
    kept: int
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Close:
    number: int


class _Leader:
    """What rank 0 has sent: one broadcast after another, from whichever thread."""

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._gate = threading.Lock()
        self._joins = self._leaves = False
        self._opened = 0

    def open(self, checkpoint: Checkpoint, weights: Weights, plan: LoadPlan, load: Callable[[], Any]) -> Any:
        """What `load` makes: this process's slice of the model, once every process has its own."""
        with self._gate:
            if self._leaves:
                raise EngineError("The program is ending.")
            self._joins = True
        with self._turn:
            _join()
            self._opened += 1
            number = self._opened
            _broadcast(_Open(number, checkpoint, weights, plan))
            model = _all_loaded(load)
        model.is_shared = True
        self._announce(model, number)
        model.on_release = lambda: self._send(_Close(number))
        return model

    def dismiss(self) -> None:
        """Let the others go; those that wait for something else go when this process's sockets close."""
        with self._gate:
            self._leaves = True
        if not self._joins:
            _store().set(_KEY, _LEAVE)
            return
        until = time.monotonic() + MEETING_SECONDS
        while not dist.is_initialized() and time.monotonic() < until:  # who waits for a meeting sees nobody leave
            time.sleep(0.05)
        if self._turn.acquire(timeout=1):
            self._send(None)

    def _send(self, message: object) -> None:
        with self._turn, suppress(EngineError):  # they are gone already
            _broadcast(message)

    def _announce(self, model: Any, number: int) -> None:
        """Have every forward pass of `model` told before it is done."""
        inside = False

        def before(_: Any, __: tuple[Any, ...], arguments: dict[str, Any]) -> None:
            nonlocal inside
            if inside:
                raise EngineError("The processes have lost step since the last answer failed: leave and start again.")
            inside = True
            told = _moved(arguments, "cpu")
            cache = told.pop(CACHE)
            with self._turn:
                _broadcast(_Step(number, cache.get_seq_length(), told))

        def after(*_: Any) -> None:
            nonlocal inside
            inside = False

        model.register_forward_pre_hook(before, with_kwargs=True)
        model.register_forward_hook(after)


leader = _Leader()


def require_sliceable(name: str, config: Any) -> None:
    """Pass over a model that the processes of torchrun can share.

    Raises:
        UsageError: transformers has no plan for its family, or its heads cannot be dealt out evenly.
    """
    said, among = text_config(config.to_dict()), processes(os.environ)
    heads = said.get("num_key_value_heads") or said.get("num_attention_heads") or 0
    if not getattr(config.get_text_config(), "base_model_tp_plan", None):
        raise UsageError(
            f"{name} cannot be split over processes, for transformers has no plan for its family: start chatcli "
            "without torchrun, which spreads its layers over the GPUs."
        )
    if heads % among:
        raise UsageError(f"{name} has {heads} key-value heads, which {among} processes cannot share evenly.")


def follow() -> int:
    """Load and compute what rank 0 does until it lets go; returns the exit code."""
    try:
        _wait_for_leader()
        models: dict[int, _Followed] = {}
        while (message := _broadcast(None)) is not None:
            match message:
                case _Open(number, checkpoint, weights, plan):
                    with suppress(ChatcliError):  # rank 0 has heard of it
                        models[number] = _Followed.open(checkpoint, weights, plan)
                case _Step(number):
                    models[number].step(message)
                case _Close(number):
                    models.pop(number, None)
    except _LeaderGone:
        return 0
    except Exception as error:
        print(f"chatcli: process {os.environ.get('RANK')}: {error}", file=sys.__stderr__, flush=True)
        return EngineError.exit_code
    return 0


class _LeaderGone(Exception):
    """Rank 0 has left without a word."""


class _Followed:
    """A follower's slice of a model, with the cache of the talk that rank 0 is in."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None

    @classmethod
    def open(cls, checkpoint: Checkpoint, weights: Weights, plan: LoadPlan) -> _Followed:
        """Load it, and tell rank 0 whether that went well."""
        from chatcli.runtime.load import load_here

        return cls(_all_loaded(lambda: load_here(checkpoint, weights, plan, lambda progress: None)))

    def step(self, step: _Step) -> None:
        """The same forward pass, with as much of the cache as rank 0 has kept."""
        if not step.kept:
            self._cache = growing_cache(self._model.config)
        elif not cut(self._cache, self._cache.get_seq_length() - step.kept):
            raise EngineError("its cache cannot be cut as that of process 0 was.")
        with torch.inference_mode():
            self._model(**{CACHE: self._cache}, **_moved(step.arguments, self._model.device))


def _moved(arguments: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    return {name: each.to(device) if isinstance(each, torch.Tensor) else each for name, each in arguments.items()}


def _all_loaded(load: Callable[[], Any]) -> Any:
    """What `load` returns, if it does in every process.

    Raises:
        ChatcliError: it failed, here or elsewhere.
    """
    failed: ChatcliError | None = None
    model = None
    try:
        model = load()
    except ChatcliError as error:
        failed = error
    heard: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(heard, str(failed) if failed else None)
    if failed:
        raise failed
    for rank, said in enumerate(heard):
        if said:
            raise EngineError(f"Process {rank} of {len(heard)} could not load the model: {said}")
    return model


def _broadcast(message: object) -> Any:
    """Send from rank 0, or receive there."""
    box = [message]
    try:
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    except RuntimeError as error:
        if dist.get_rank() == 0:
            raise EngineError("Another process of this model has ended: leave and start again.") from error
        raise _LeaderGone from error
    return box[0]


def _store() -> Any:
    return next(rendezvous("env://", timeout=PATIENCE))[0]


def _wait_for_leader() -> None:
    """Join rank 0 when it joins.

    Raises:
        _LeaderGone: it needed no model after all.
    """
    try:
        said = _store().get(_KEY)
    except RuntimeError as error:  # torchrun is gone
        raise _LeaderGone from error
    if said == _LEAVE:
        raise _LeaderGone
    _join()


def _join() -> None:
    """Begin the group of all processes: gloo for messages, and what the devices have for their tensors."""
    if dist.is_initialized():
        return
    if os.environ.get("RANK") == "0":
        _store().set(_KEY, _JOIN)
    backend = "cpu:gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend += ",cuda:nccl"
    elif torch.xpu.is_available():
        torch.xpu.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend += ",xpu:xccl"
    dist.init_process_group(backend, timeout=PATIENCE)
