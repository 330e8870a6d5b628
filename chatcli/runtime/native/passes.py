"""Which way a pass is computed: by `step.c` once that is built and proved, and where it is faster; else as torch does.

It knows when to change over; what is computed is `step`'s, and how it is built is `build`'s.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from chatcli.runtime.cpu import Way
from chatcli.runtime.decode import FeedTexts
from chatcli.runtime.kv import CACHE, PrefixCache, growing_cache
from chatcli.runtime.native.build import CannotBuildError, Library, library
from chatcli.runtime.native.step import FEW, LANES, MOST, Step
from chatcli.runtime.quantized_layers import QuantizedLinear

CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""How far two ways may lie apart that round at different places, as a share of the logits; torch's kernels for packed
weights read their input in bfloat16, whatever the dtype."""
ALIKE = 512
"""Tokens before, of which more or fewer change little."""
TRIES = 2
"""Passes of a kind that each way computes before the faster one has all of them."""


class NativePasses:
    """Computes passes of `model` by the step, once that is built and proved to compute what the model does.

    Raises:
        NotOfThisShapeError: the step is not for this model.
    """

    def __init__(self, model: Any, library: Library) -> None:
        self._model, self._library = model, library
        self._step, self._own = Step(model), model.forward
        self._is_open, self._is_right, self._is_sooner = True, False, False
        self._seconds: defaultdict[tuple[bool, tuple[int, int]], list[float]] = defaultdict(list)

    def one_row(self, otherwise: Way) -> Way:
        """A way to compute a single token: `otherwise`, until the step is there and faster."""

        @contextmanager
        def way() -> Generator[None]:
            with otherwise():
                self._look()
                with self._instead(self._step if self._is_sooner else None):
                    yield

        return way

    def some_rows(self) -> AbstractContextManager[None]:
        """A way to compute several: each kind of pass the way that took less for it before."""
        self._look()
        return self._instead(self._faster if self._is_right else None)

    def together(self) -> FeedTexts | None:
        """A way to feed several texts in the same passes, where the step is there and faster."""
        self._look()
        return self._texts if self._is_right and self._is_faster(_kind(MOST, 0)) else None

    def _texts(self, texts: Sequence[tuple[PrefixCache, Sequence[int]]]) -> torch.Tensor:
        """Logits (texts, vocabulary); a pass that is broken off leaves no trace in any cache."""
        with torch.inference_mode(), ExitStack() as stack:
            return self._step.texts([(stack.enter_context(cache.feeding(ids)), ids) for cache, ids in texts])

    def _is_faster(self, kind: tuple[int, int]) -> bool:
        """Whether nothing is known against the step in passes like these."""
        ours, own = (self._seconds[by_step, kind] for by_step in (True, False))
        return not ours or not own or min(ours) < min(own)

    @contextmanager
    def _instead(self, forward: Callable[..., Any] | None) -> Generator[None]:
        """Have the model's passes computed by `forward`, if there is one."""
        if forward is None:
            yield
            return
        # Before what its class has, a module calls what it has itself.
        vars(self._model)["forward"] = forward
        try:
            yield
        finally:
            del vars(self._model)["forward"]

    def _faster(self, **told: Any) -> Any:
        """A pass by the way that is the faster one for its kind, or is not known yet."""
        tokens = told["input_ids"].numel()
        kind = _kind(tokens, told[CACHE].get_seq_length())
        tried = {by_step: self._seconds[by_step, kind] for by_step in (True, False)}
        untried = [by_step for by_step, seconds in tried.items() if len(seconds) < TRIES]
        if not untried:
            return (self._step if self._is_faster(kind) else self._own)(**told)
        begun = time.perf_counter()
        out = (self._step if untried[0] else self._own)(**told)
        tried[untried[0]].append((time.perf_counter() - begun) / tokens)
        return out

    def _look(self) -> None:
        """Take the step once there is one that computes what the model does."""
        if not self._is_open:
            return
        try:
            built = self._library.loaded()
        except CannotBuildError:
            self._is_open = False
            return
        if built:
            self._is_open = False
            self._step.link(built)
            self._prove()

    def _prove(self) -> None:
        """See whether two tokens come to the same logits both ways, and sooner by the step."""
        try:
            (ours, ours_took), (own, own_took) = (self._tried(each) for each in (self._step, self._model))
        except (RuntimeError, TypeError, AttributeError, KeyError):  # of another release of transformers, perhaps
            return
        is_packed = any(isinstance(each, QuantizedLinear) for each in self._model.modules())
        close = CLOSE[torch.bfloat16 if is_packed else self._step.dtype]
        self._is_right = bool((ours - own).norm() / own.norm() <= close)
        self._is_sooner = self._is_right and ours_took < own_took

    def _tried(self, way: Callable[..., Any]) -> tuple[torch.Tensor, float]:
        """Logits after two tokens, and the seconds that the faster one took."""
        cache, times = growing_cache(self._model.config), []
        with torch.inference_mode():
            for token in (1, 0):
                begun = time.perf_counter()
                out = way(input_ids=torch.tensor([[token]]), **{CACHE: cache}, use_cache=True)
                times.append(time.perf_counter() - begun)
        return out.logits[0, -1].float(), min(times)


def _kind(tokens: int, before: int) -> tuple[int, int]:
    """Passes that take alike for each token: of so many, after so many others."""
    lanes = tokens if tokens < FEW else min(-(-tokens // LANES) * LANES, MOST)
    return lanes, (before // ALIKE).bit_length()


def native_passes(model: Any, variables: Mapping[str, str]) -> NativePasses:
    """Those of a model on this machine.

    Raises:
        CannotBuildError, NotOfThisShapeError: there are none.
    """
    found = library(variables)
    found.require()
    return NativePasses(model, found)
