"""How fast a loaded model reads and writes here, beside plain `generate()` and what the memory can give.

Both ways take turns in one run, for a machine is never alone; medians, and ratios of the same round. It knows ids and a
clock; what is printed is the command's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime.model import CausalModel, bytes_per_token

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
READ_BYTES = 256 << 20
"""What the memory's rate is measured on: more than any cache holds."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One way's medians: seconds to the first token, and tokens a second of the prompt and of the answer after it."""

    first_token: float
    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found; `plain` is `generate()`, None where the model has none.

    `ratios` are ours over plain, above 1 where ours is faster. `bandwidth` is in bytes a second, `bytes_per_token` what
    a token reads of the weights; 0 where that differs from token to token.
    """

    prompt: int
    tokens: int
    rounds: int
    ours: Speed
    plain: Speed | None
    ratios: Speed | None
    bandwidth: float
    bytes_per_token: int

    @property
    def share(self) -> float:
        """What part of the memory's rate decoding uses; 0 where that is not known."""
        return self.ours.decode * self.bytes_per_token / self.bandwidth


def measure(model: CausalModel, ids: Sequence[int], tokens: int, rounds: int) -> Generator[Progress, None, Measured]:
    """Read the prompt `ids` and write `tokens` more, both ways in turn, after a round that warms up.

    Raises:
        OutOfMemory, EngineError: the model failed.
    """
    ours, plain, rates = [], [], []
    for number in range(rounds + 1):
        yield Progress("measuring", number, rounds + 1, "rounds")
        rates.append(bandwidth(model.module))
        ours.append(ours_once(model, ids, tokens))
        if found := plain_once(model.module, ids, tokens):
            plain.append(found)
    model.forget()
    ours, plain = ours[1:], plain[1:]
    ratios = [
        Speed(b.first_token / a.first_token, a.prefill / b.prefill, a.decode / b.decode)
        for a, b in zip(ours, plain, strict=False)
    ]
    return Measured(
        prompt=len(ids),
        tokens=tokens,
        rounds=rounds,
        ours=_medians(ours),
        plain=_medians(plain) if plain else None,
        ratios=_medians(ratios) if ratios else None,
        bandwidth=median(rates),
        bytes_per_token=bytes_per_token(model.module),
    )


def machine() -> dict[str, str | int]:
    """What a number depends on, beside the model."""
    import platform

    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "processor": gpu or _processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def bandwidth(module: Any) -> float:
    """Bytes a second that the memory of the model's device gives now: the best of reading and of copying."""
    device = module.device
    matrix = torch.ones(READ_BYTES // 4 // 4096, 4096, device=device)
    vector, copied = torch.ones(4096, device=device), torch.empty_like(matrix)

    def rate(work: Any, moved: int) -> float:
        best = 0.0
        for _ in range(4):
            _finish(device)
            begun = perf_counter()
            work()
            _finish(device)
            best = max(best, moved / (perf_counter() - begun))
        return best

    with torch.inference_mode():
        return max(
            rate(lambda: torch.mv(matrix, vector), READ_BYTES), rate(lambda: copied.copy_(matrix), 2 * READ_BYTES)
        )


def _finish(device: torch.device) -> None:
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).synchronize()


def ours_once(model: CausalModel, ids: Sequence[int], tokens: int) -> Speed:
    """One prompt read with an empty cache, and `tokens` more."""
    model.forget()
    begun = perf_counter()
    made = model.generate(ids, GREEDY, end=(), limit=tokens)
    times = [perf_counter() for each in made if not isinstance(each, Progress)]
    return _speed(begun, times, len(ids))


class _Clock:
    """A streamer that notes when tokens come; the first it hears of is the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: object) -> None:
        """A token has come."""
        self.times.append(perf_counter())

    def end(self) -> None:
        """Nothing more comes."""


def plain_once(module: Any, ids: Sequence[int], tokens: int) -> Speed | None:
    """The same by transformers' own `generate` with a streamer; None where the model cannot be run with it."""
    clock = _Clock()
    prompt = torch.tensor([list(ids)], device=module.device)
    begun = perf_counter()
    try:
        module.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=-1,  # no token ends it, which costs less than forbidding the one that would
            pad_token_id=0,
            streamer=clock,
        )
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None
    return _speed(begun, clock.times[1:], len(ids))


def _speed(begun: float, times: Sequence[float], prompt: int) -> Speed:
    first = times[0] - begun
    return Speed(first, prompt / first, (len(times) - 1) / (times[-1] - times[0]))


def _medians(rounds: Sequence[Speed]) -> Speed:
    return Speed(
        median(each.first_token for each in rounds),
        median(each.prefill for each in rounds),
        median(each.decode for each in rounds),
    )


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:  # noqa: PTH123  a file of the kernel
            names = (line.partition(":")[2].strip() for line in told if line.startswith("model name"))
            return next(names, "")
    except OSError:
        return ""
