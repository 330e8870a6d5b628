"""How this CPU multiplies one token's row fastest: through oneDNN or not, on how many threads. Measured, not guessed.

For one row oneDNN reaches a third of the memory's rate with bfloat16 where torch's own kernel reaches nearly all of it;
for a whole prompt it is the other way round. On other processors both are the same. It knows weights and a clock; no
token and no cache.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import torch

Way: TypeAlias = Callable[[], AbstractContextManager[None]]
"""How a forward pass of one token is computed while it is entered."""

SAMPLE_BYTES = 48 << 20
"""Weights that one measurement reads: more than most caches hold, and a few milliseconds."""
SECONDS = 0.06
"""What the whole measuring may take, once each way has been tried twice."""
WORTH_IT = 0.85
"""Another way than torch's own is taken only where it needs less than this share of the time: the choice lasts, and a
machine that is busy now may not be later."""


@dataclass(frozen=True, slots=True)
class OneRow:
    """A way to compute a forward pass of one token; `threads` 0 leaves torch's number."""

    onednn: bool = True
    threads: int = 0

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Compute this way for the time of a forward pass; both switches are the process's."""
        onednn, threads = torch._C._get_mkldnn_enabled(), torch.get_num_threads()
        wanted = self.threads or threads
        try:
            if not self.onednn:
                torch._C._set_mkldnn_enabled(False)
            if wanted != threads:
                torch.set_num_threads(wanted)
            yield
        finally:
            torch._C._set_mkldnn_enabled(onednn)
            if wanted != threads:
                torch.set_num_threads(threads)


AS_TORCH_DOES = OneRow()


def attend_in_groups() -> None:
    """Let transformers hand keys and values that several heads share to torch as they are.

    Where there is a mask it copies them for each head, which is right for the kernels of a GPU. Torch's own for a CPU
    reads them in place and comes to the same bits: a step after 3,950 tokens needs a third of the time.
    """
    os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


def fastest_row(model: Any) -> OneRow:
    """The fastest way to compute one token with the weights of `model`, by trying; torch's own on a GPU."""
    weights = list(_sample(model))
    if not weights:
        return AS_TORCH_DOES
    onednn = _fastest(weights, [OneRow(onednn) for onednn in (True, False)])
    return _fastest(weights, [onednn, *(OneRow(onednn.onednn, each) for each in _fewer(torch.get_num_threads()))])


def _sample(model: Any) -> Iterator[torch.Tensor]:
    """Weights of linear layers on the CPU, (out, in), as many as `SAMPLE_BYTES` hold, but at least one."""
    found = (
        each.weight
        for each in model.modules()
        if isinstance(each, torch.nn.Linear) and each.weight.device.type == "cpu" and each.weight.is_floating_point()
    )
    read = 0
    for weight in found:
        yield weight
        read += weight.numel() * weight.element_size()
        if read > SAMPLE_BYTES:
            return


def _fewer(threads: int) -> list[int]:
    """Smaller numbers of threads that may do better: memory is full before all cores work, or cores are two halves."""
    return sorted({each for each in (threads // 2, threads * 3 // 4) if 0 < each < threads}, reverse=True)


def _fastest(weights: list[torch.Tensor], ways: list[OneRow]) -> OneRow:
    """The way that read `weights` in the shortest time; the first, where none is clearly better."""
    if len(ways) < 2:
        return ways[0]
    rows = {weight.shape[1]: weight.new_ones(1, weight.shape[1]) for weight in weights}
    times: dict[OneRow, list[float]] = {way: [] for way in ways}
    begun = time.perf_counter()
    for round_ in range(20):
        for way in ways:
            start = time.perf_counter()
            with torch.inference_mode(), way():
                for weight in weights:
                    torch.nn.functional.linear(rows[weight.shape[1]], weight)
            times[way].append(time.perf_counter() - start)
        if round_ > 1 and time.perf_counter() - begun > SECONDS / 2:
            break
    # The first round reads weights from the disk, and the shortest time is the one that nobody disturbed.
    best = {way: min(islice(each, 1, None)) for way, each in times.items()}
    challenger = min(best, key=lambda way: best[way])
    return challenger if best[challenger] < WORTH_IT * best[ways[0]] else ways[0]
