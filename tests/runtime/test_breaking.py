"""A prompt that is being read can be given up at any moment, and nothing that was read is lost or wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

from chatcli.runtime.breaking import breakable
from chatcli.runtime.decode import feed, prefill
from chatcli.runtime.kv import PrefixCache

SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3}
ATTENDING = {**SMALL, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**ATTENDING)),
    "a window that has moved on": lambda: MistralForCausalLM(MistralConfig(**ATTENDING, sliding_window=8)),
    "a running state": lambda: MambaForCausalLM(MambaConfig(**SMALL)),
}
FIRST, SECOND = list(range(3, 23)), list(range(30, 40))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    return MODELS[request.param]().eval()


def first_layer(model: Any) -> Any:
    return next(each for each in model.modules() if isinstance(each, torch.nn.ModuleList))[0]


class Stuck:
    """Holds a model in its last layer until it is let go; counts the layers that came by."""

    def __init__(self, model: Any) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        layers = next(each for each in model.modules() if isinstance(each, torch.nn.ModuleList))
        layers[1].register_forward_pre_hook(self._wait)
        self.behind = 0
        layers[2].register_forward_pre_hook(self._count)

    def _wait(self, *_: object) -> None:
        self.reached.set()
        self.go.wait()

    def _count(self, *_: object) -> None:
        self.behind += 1

    def go_on_while_closing(self, reading: Generator[Any, None, Any]) -> None:
        """Close what reads, and let the model go on when that waits for it."""
        unwanted, done = (_inside(reading)[name] for name in ("unwanted", "done"))
        closing = threading.Thread(target=reading.close)
        closing.start()
        unwanted.wait()
        assert not done.is_set()
        self.go.set()
        closing.join()
        assert done.is_set()


def _inside(reading: Generator[Any, None, Any]) -> dict[str, Any]:
    """The variables of the generator that others pass on."""
    while reading.gi_yieldfrom is not None:
        reading = reading.gi_yieldfrom
    return dict(reading.gi_frame.f_locals)


def logits_after(model: Any, cache: PrefixCache, ids: Sequence[int]) -> torch.Tensor:
    reading = prefill(model, cache, ids)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def test_one_that_is_given_up_ends_before_its_next_layer(model: Any) -> None:
    stuck = Stuck(model)
    reading = prefill(model, PrefixCache(model.config), FIRST)
    assert [next(reading).done, next(reading).done] == [0, 0]  # the second while the first chunk is read
    stuck.reached.wait()
    stuck.go_on_while_closing(reading)
    assert stuck.behind == 0
    assert not first_layer(model)._forward_pre_hooks


def test_what_was_read_before_is_kept_and_the_next_prompt_comes_to_the_same(model: Any) -> None:
    cache = PrefixCache(model.config)
    feed(model, cache, FIRST)
    could_be_cut = cache.can_be_cut
    stuck = Stuck(model)
    reading = prefill(model, cache, FIRST + SECOND)
    next(reading)
    next(reading)
    stuck.go_on_while_closing(reading)
    assert cache.ids == (FIRST if could_be_cut else [])
    again = logits_after(model, cache, FIRST + SECOND)
    fresh = logits_after(model, PrefixCache(model.config), FIRST + SECOND)
    assert torch.allclose(again, fresh, atol=1e-5)


def test_what_the_work_raises_comes_out() -> None:
    def fail() -> None:
        raise ValueError("odd")

    model = MODELS["llama"]()
    with pytest.raises(ValueError, match="odd"):
        list(breakable(model, fail, None))
    assert not first_layer(model)._forward_pre_hooks
