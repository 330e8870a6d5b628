"""Decoding over buffers that never move, so that a GPU can replay a step as one recorded graph.

A step feeds the token that the step before drew and draws the next, all on the device: the host launches it without
having seen the token, and reads tokens one step behind. Without this a GPU waits for Python to launch a thousand small
kernels a token. It knows plain attention layers; what has others is decoded as everywhere (`runtime.decode`).

Recording needs CUDA. The same step runs unrecorded in the tests on a CPU, where it is slower than the plain way and
never taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from transformers.cache_utils import StaticCache, StaticLayer

from chatcli.errors import EngineError
from chatcli.generation import GenerationSettings
from chatcli.runtime.decode import decode, feed
from chatcli.runtime.kv import CACHE, PrefixCache
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import NOT_NUMBERS, Sampler, draw_at, filter_logits

Forward: TypeAlias = Callable[..., Any]
Run: TypeAlias = Callable[[], None]
Record: TypeAlias = Callable[[Run], Run]

LIKELIEST = GenerationSettings(temperature=0.0)
LEAST_ROOM = 1024
"""Tokens of the smallest cache; each next one has twice the room, for attention reads all of it."""
CLOSE = 0.05
"""How far the logits of a step may lie from the model's own, as a share of them: kernels round at different places."""
AHEAD = 256
"""Tokens of a reply that a cache is chosen to have room for, before a larger one takes over."""


class FixedLayer(StaticLayer):
    """A static layer as transformers has it, allocated without loading the compiler, which takes two seconds."""

    keys: torch.Tensor
    values: torch.Tensor

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the room for keys and values like these, (1, heads, tokens, width)."""
        self.device = key_states.device
        self.batch_size, self.num_heads = key_states.shape[:2]
        self.k_head_dim, self.v_head_dim = key_states.shape[-1], value_states.shape[-1]
        heads = (self.batch_size, self.num_heads, self.max_cache_len)
        self.keys = key_states.new_zeros((*heads, self.k_head_dim))
        self.values = value_states.new_zeros((*heads, self.v_head_dim))
        self.cumulative_length = self.cumulative_length.to(self.device)
        self.is_initialized = True


def can_be_recorded(model: Any) -> bool:
    """Whether a model's step may be tried as a CUDA graph: all of it on one GPU, and positions that count upwards."""
    placed = set(getattr(model, "hf_device_map", {}).values())
    return model.device.type == "cuda" and len(placed) < 2 and is_static(model)


def is_static(model: Any) -> bool:
    """Whether a step of a model can run over fixed buffers: plain attention and nothing of its own on top."""
    if hasattr(model, "undivided") or hasattr(model, "places"):
        return False
    try:
        layers = StaticCache(config=model.config, max_cache_len=1).layers
    except (KeyError, ValueError, AttributeError, TypeError):  # layers that transformers has no static kind of
        return False
    return bool(layers) and all(type(layer) is StaticLayer for layer in layers)


def recorded(run: Run) -> Run:
    """Record what `run` does on the GPU; calling the result does it again, in one launch.

    Raises:
        RuntimeError: it waits for the GPU on its way, or does something else that cannot be recorded.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries allocate in their first calls must not be recorded
        run()
        run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


class StaticStep:
    """One decoding step of a model over a cache of `room` tokens, computed by `forward`.

    The step reads `_token` and leaves there what it drew; `_told` is the same for the host, -1 where the logits were
    no numbers.
    """

    def __init__(self, model: Any, forward: Forward, room: int, record: Record) -> None:
        self.room = room
        self._record = record
        self._own = model
        device = input_device(model)
        self._cache = StaticCache(config=model.config, max_cache_len=room)
        self._layers = [FixedLayer(room) for _ in self._cache.layers]
        self._cache.layers = list[Any](self._layers)
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._uniform = torch.zeros(1, device=device)
        self._told = torch.zeros(1, dtype=torch.long, device=device)
        # Two, for the next step is under way before the last one's token is read.
        self._read = _Read(device), _Read(device)
        with torch.inference_mode():
            self._logits = self._computed(model).clone()
            self._compute = record(partial(self._keep, forward))
            self._check()
        self._draws: dict[tuple[object, ...], Run] = {}

    def begin(self, cache: PrefixCache, token: int) -> None:
        """Take over what `cache` holds; `token` is fed first."""
        with torch.inference_mode():
            for fixed, layer in zip(self._layers, list[Any](cache.layers.layers), strict=True):
                fixed.keys[..., : len(cache.ids), :] = layer.keys
                fixed.values[..., : len(cache.ids), :] = layer.values
                fixed.cumulative_length.fill_(len(cache.ids))
            self._token.fill_(token)

    def advance(self, sampler: Sampler) -> _Read:
        """Feed the last token drawn and draw the next, as `sampler` would; waits for nothing."""
        with torch.inference_mode():
            self._compute()
            self._uniform.copy_(sampler.uniform())
            self.drawing(sampler.settings)()
            self._read = self._read[::-1]
            self._read[0].send(self._told)
        return self._read[0]

    def finish(self, cache: PrefixCache, fed: Sequence[int]) -> None:
        """Give `cache` the keys and values of the tokens that it lacks, whose ids are `fed`."""
        old, new = len(cache.ids), len(cache.ids) + len(fed)
        with torch.inference_mode(), cache.feeding(fed) as layers:
            for fixed, layer in zip(self._layers, list[Any](layers.layers), strict=True):
                layer.update(fixed.keys[..., old:new, :], fixed.values[..., old:new, :])

    def drawing(self, settings: GenerationSettings) -> Run:
        """What draws under `settings`, recorded once for each that differ in what counts."""
        key = (settings.temperature, settings.top_k, settings.top_p, settings.min_p)
        if key not in self._draws:
            with torch.inference_mode():
                self._draws[key] = self._record(lambda: self._draw(settings))
        return self._draws[key]

    def _check(self) -> None:
        """Raise RuntimeError where what was recorded computes something else than the model does."""
        found: list[torch.Tensor] = []
        self._token.fill_(len(self._logits) // 2)
        for run in (partial(self._keep, self._own), self._compute):
            self._logits.zero_()
            for layer in self._layers:
                layer.cumulative_length.fill_(0)
            run()
            found.append(self._logits.float().nan_to_num())
        own, ours = found
        if (ours - own).norm() > CLOSE * own.norm():
            raise RuntimeError("the recorded step computes something else")

    def _keep(self, forward: Forward) -> None:
        self._logits.copy_(self._computed(forward))

    def _computed(self, forward: Forward) -> torch.Tensor:
        """Logits (vocabulary,) after `_token`."""
        out = forward(input_ids=self._token, **{CACHE: self._cache}, use_cache=True)
        logits: torch.Tensor = out.logits[0, -1]
        return logits

    def _draw(self, settings: GenerationSettings) -> None:
        logits = self._logits.float()
        if settings.temperature:
            drawn = draw_at(filter_logits(logits, settings), self._uniform)
        else:
            drawn = logits.argmax(dim=-1, keepdim=True)
        usable = torch.isfinite(logits.amax(dim=-1, keepdim=True))
        self._told.copy_(torch.where(usable, drawn, -1))
        self._token.copy_(drawn.clamp(max=len(logits) - 1)[None])


class _Read:
    """A token on its way from the device to the host."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._host = torch.zeros(1, dtype=torch.long, pin_memory=on_gpu)
        self._arrived = torch.cuda.Event() if on_gpu else None

    def send(self, token: torch.Tensor) -> None:
        """Begin to copy `token`, (1,), to the host."""
        self._host.copy_(token, non_blocking=True)
        if self._arrived:
            self._arrived.record()

    def token(self) -> int:
        """The token, once it is here.

        Raises:
            EngineError: the logits it was drawn from were no numbers.
        """
        if self._arrived:
            self._arrived.synchronize()
        token = int(self._host)
        if token < 0:
            raise EngineError(NOT_NUMBERS)
        return token


class StaticSteps:
    """The steps of a model, by their room; made when a reply first needs them."""

    def __init__(self, model: Any, record: Record = recorded, least: int = LEAST_ROOM) -> None:
        self._model = self._forward = model
        self._record = record
        self._least = least
        self._steps: dict[int, StaticStep] = {}
        self._impossible = False

    def compile(self) -> bool:
        """Have torch's compiler fuse what a step computes, which takes a minute unless it did so before.

        Returns whether it could; else the step stays as it was.
        """
        self.forget()
        self._forward = torch.compile(self._model.forward)
        return bool(self.holding(self._least, LIKELIEST)) and self._forward is not self._model

    def holding(self, tokens: int, settings: GenerationSettings) -> StaticStep | None:
        """A step with room for so many, ready to draw; None where it cannot be recorded or its cache does not fit."""
        room = max(self._least, 1 << (tokens - 1).bit_length())
        if not self._impossible:
            try:
                step = self._steps.get(room) or StaticStep(self._model, self._forward, room, self._record)
                step.drawing(settings)
                self._steps[room] = step
                return step
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
                if self._forward is not self._model:
                    self._forward = self._model
                    return self.holding(tokens, settings)
                self._impossible = True  # such as a mixture of experts that asks the host which of them it needs
        return None

    def forget(self) -> None:
        """Free the fixed buffers; they are made again when a reply needs them."""
        self._steps.clear()

    def decode(
        self,
        cache: PrefixCache,
        ids: Sequence[int],
        logits: torch.Tensor,
        sampler: Sampler,
        *,
        end: Collection[int],
        limit: int,
    ) -> Generator[int, None, bool]:
        """What `runtime.decode.decode` does, with the same tokens, for a sampler that minds no earlier ones."""
        token = sampler.draw(logits, ids)
        if token in end:
            return True
        yield token
        left = limit - 1
        while left > 0:
            step = self.holding(len(cache.ids) + 1 + min(left, AHEAD), sampler.settings)
            if step is None:
                logits = feed(self._model, cache, [token])[0]
                return (yield from decode(self._model, cache, [*ids, token], logits, sampler, end=end, limit=left))
            made: list[int] = []
            count = min(left, step.room - len(cache.ids))
            step.begin(cache, token)
            try:
                if (yield from _along(step, sampler, count, end, made)):
                    return True
            finally:
                # The last of `count` tokens is drawn and not fed.
                step.finish(cache, [token, *made][:count])
            token = made[-1]
            left -= count
        return False


def _along(
    step: StaticStep, sampler: Sampler, count: int, end: Collection[int], made: list[int]
) -> Generator[int, None, bool]:
    """Yield up to `count` tokens, which join `made`; each is read while the next is computed."""
    under_way = step.advance(sampler)
    for number in range(count):
        arriving = under_way
        if number + 1 < count:
            under_way = step.advance(sampler)
        token = arriving.token()
        if token in end:
            return True
        made.append(token)
        yield token
    return False
