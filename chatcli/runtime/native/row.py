"""Which way a few tokens are computed: by `step.c` from when it is built and proved, as torch does it until then.

It knows when to change over; what is computed is `step`'s, and how it is built is `build`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from chatcli.runtime.cpu import AS_TORCH_DOES, Way
from chatcli.runtime.kv import CACHE, growing_cache
from chatcli.runtime.native.build import CannotBuildError, Library, library
from chatcli.runtime.native.step import Step

FEW = 8
"""Tokens that prove the way for several: with so many the memory is not all that counts any more."""
CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""How far two ways may lie apart that round at different places, as a share of the logits."""


class NativeWay:
    """A way to compute a forward pass with `model`: `otherwise`, until a faster one is built and proved by `tokens`."""

    def __init__(self, model: Any, step: Step, otherwise: Way, library: Library, tokens: int = 1) -> None:
        self._model, self._step, self._otherwise, self._library = model, step, otherwise, library
        self._tokens = tokens
        self._is_open, self._is_taken = True, False

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Compute this way for the time of a forward pass."""
        with self._otherwise():
            if self._is_open:
                self._look()
            if not self._is_taken:
                yield
                return
            # Before what its class has, a module calls what it has itself.
            vars(self._model)["forward"] = self._step
            try:
                yield
            finally:
                del vars(self._model)["forward"]

    def _look(self) -> None:
        """Take the step once there is one that computes what the model does, and sooner."""
        try:
            built = self._library.loaded()
        except CannotBuildError:
            self._is_open = False
            return
        if built:
            self._is_open = False
            self._step.link(built)
            self._is_taken = self._is_proved()

    def _is_proved(self) -> bool:
        """Whether two passes come to the same logits both ways, and sooner by the step."""
        try:
            (ours, ours_took), (own, own_took) = (self._tried(each) for each in (self._step, self._model))
        except (RuntimeError, TypeError, AttributeError, KeyError):  # of another release of transformers, perhaps
            return False
        apart = (ours - own).norm() / own.norm()
        return bool(apart <= CLOSE[self._step.dtype]) and ours_took < own_took

    def _tried(self, way: Callable[..., Any]) -> tuple[torch.Tensor, float]:
        """Logits after two passes, and the seconds that the faster one took."""
        cache, times = growing_cache(self._model.config), []
        with torch.inference_mode():
            for token in (1, 0):
                begun = time.perf_counter()
                out = way(input_ids=torch.tensor([[token] * self._tokens]), **{CACHE: cache}, use_cache=True)
                times.append(time.perf_counter() - begun)
        return out.logits[0, -1].float(), min(times)


def native_ways(model: Any, one_row: Way, variables: Mapping[str, str]) -> tuple[NativeWay, NativeWay]:
    """The ways for a single token, and for a few, of a model on this machine.

    Raises:
        CannotBuildError, NotOfThisShapeError: there are none.
    """
    found = library(variables)
    found.require()
    step = Step(model)
    return NativeWay(model, step, one_row, found), NativeWay(model, step, AS_TORCH_DOES, found, FEW)
