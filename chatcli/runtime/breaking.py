"""A forward pass that can be broken off between its layers, and that yields while it runs.

A chunk of a prompt may take a large model on a small processor half a minute. It knows modules and threads; it knows no
prompt and no cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

Beat = TypeVar("Beat")
Result = TypeVar("Result")

BEAT_SECONDS = 0.1
"""How often whoever waits may break it off."""


class GivenUpError(Exception):
    """Nobody wants to know the result any more."""


def layers_of(model: Any) -> list[nn.Module]:
    """What a forward pass goes through one after the other."""
    return [layer for each in model.modules() if isinstance(each, nn.ModuleList) for layer in each]


@contextmanager
def given_up(layers: Iterable[nn.Module], unwanted: Callable[[], bool]) -> Generator[None]:
    """Raise `GivenUpError` before the next of `layers` as soon as a forward pass in the block is `unwanted`."""

    def check(*_: object) -> None:
        if unwanted():
            raise GivenUpError

    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def can_be_broken(model: Any) -> bool:
    """Whether a forward pass computes here and now, and nowhere else."""
    return model.device.type == "cpu" and not getattr(model, "is_shared", False)


def breakable(model: Any, work: Callable[[], Result], beat: Beat) -> Generator[Beat, None, Result]:
    """Do `work`, which runs `model`, and yield `beat` ten times a second until it is done; returns its result.

    Closing this ends the work before its next layer, and returns when it has ended. What the work raises, this raises.
    On a GPU, whose work is only queued here, and where other processes compute along, it is simply done.
    """
    if not can_be_broken(model):
        return work()
    unwanted, done = threading.Event(), threading.Event()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    with given_up(layers_of(model), unwanted.is_set):
        try:
            threading.Thread(target=run, daemon=True).start()
            while not done.wait(BEAT_SECONDS):
                yield beat
        finally:
            unwanted.set()
            done.wait()
    if errors:
        raise errors[0]
    return results[0]
