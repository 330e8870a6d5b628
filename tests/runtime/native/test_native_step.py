"""The step in C must give the model's own tokens, whenever it takes over, and none where it would compute others."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from ctypes import CDLL
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.load_request import LoadRequest, Quantization
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.weights import weights
from chatcli.runtime.breaking import GivenUpError, given_up, layers_of
from chatcli.runtime.columns import Columns
from chatcli.runtime.cpu import AS_TORCH_DOES, OneRow, Way
from chatcli.runtime.decode import feed
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.model import load as load_model
from chatcli.runtime.native.build import CannotBuildError, Library, library
from chatcli.runtime.native.passes import NativePasses
from chatcli.runtime.native.step import FEW, LANES, MOST, NotOfThisShapeError, Step, int4_block
from chatcli.runtime.packing import UNPACK
from chatcli.runtime.quantized_layers import LINEARS, Int8Embedding

PROMPT = list(range(5, 30))
GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    "mistral": {"sliding_window": None, "head_dim": 16},
    "qwen2": {"num_key_value_heads": 4, "intermediate_size": 75},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
}


def load(make_checkpoint: Callable[..., Path], family: str, **config: Any) -> Any:
    model = AutoModelForCausalLM.from_pretrained(make_checkpoint(family, seed=5, **config), dtype=torch.float32).eval()
    for name, weight in model.named_parameters():  # biases and norms that are not what they begin as
        if weight.ndim == 1:
            torch.nn.init.uniform_(weight, 0.5 if "norm" in name else -0.5, 1.5 if "norm" in name else 0.5)
    return model


@pytest.fixture(scope="module")
def llama(make_checkpoint: Callable[..., Path]) -> Any:
    return load(make_checkpoint, "llama")


def step_of(model: Any, built: CDLL) -> Step:
    step = Step(model)
    step.link(built)
    return step


class Taken:
    """A way of one token that computes by the step wherever it is asked to, and else by the model."""

    def __init__(self, model: Any, step: Step, turns: int, threads: int = 0) -> None:
        self.model, self.step, self.turns, self.otherwise = model, step, turns, OneRow(threads=threads)
        self.calls = 0

    @contextmanager
    def __call__(self) -> Generator[None]:
        self.calls += 1
        by_step = self.calls % self.turns == 0
        with self.otherwise():
            if by_step:
                vars(self.model)["forward"] = self.step
            try:
                yield
            finally:
                vars(self.model).pop("forward", None)


def answer(model: CausalModel, ids: list[int], limit: int = 40) -> list[int]:
    return [each for each in model.generate(ids, GREEDY, end=(), limit=limit) if isinstance(each, int)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("turns", "threads"), [(1, 0), (2, 3)])
def test_its_tokens_are_the_models_own(
    family: str, turns: int, threads: int, built: CDLL, make_checkpoint: Callable[..., Path]
) -> None:
    """All by the step, and in turn with the model's own on several threads; also in the turn after, from its cache."""
    module = load(make_checkpoint, family, **FAMILIES[family])
    plain, ours = CausalModel(module), CausalModel(module)
    ours.one_row = way = Taken(module, step_of(module, built), turns, threads)
    first = answer(plain, PROMPT)
    assert answer(ours, PROMPT) == first
    longer = [*PROMPT, *first, 8, 9]
    assert answer(ours, longer) == answer(plain, longer)
    assert way.calls > 40


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_packed_weights_give_the_products_of_what_they_stand_for(
    quantization: Quantization, built: CDLL, make_checkpoint: Callable[..., Path]
) -> None:
    if quantization == "int4" and not int4_block():
        pytest.skip("torch lays int4 out in another way on this processor")
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_key_value_heads": 2, "attention_bias": True}
    packed, exact = (load(make_checkpoint, "llama", **sizes) for _ in range(2))
    for name, layer in list(exact.named_modules()):
        if type(layer) is torch.nn.Linear and name != "lm_head":
            instead = LINEARS[quantization](layer.in_features, layer.out_features, True)
            instead.take(layer.weight.detach())
            instead.bias = layer.bias
            packed.set_submodule(name, instead)
            plain = LINEARS[quantization](1, 1)  # of no shape that a kernel takes: it keeps what it is given
            plain.take(layer.weight.detach())
            parts = (plain.weight, plain.scale, plain.zero) if quantization == "int4" else (plain.weight, plain.scale)
            layer.weight.data = UNPACK[quantization](parts, torch.float32)
    logits = []
    for model, forward in ((packed, step_of(packed, built)), (exact, None)):
        cache = PrefixCache(model.config)
        if forward:
            vars(model)["forward"] = forward
        for token in PROMPT:
            found = feed(model, cache, [token])
        logits.append(found)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_it_takes_over_in_a_model_that_was_packed(
    quantization: Quantization, dtype: str, tied: bool, built: CDLL, make_checkpoint: Callable[..., Path]
) -> None:
    """In float32, too, where torch's kernels for packed weights still round what they read to bfloat16."""
    if quantization == "int4" and not int4_block():
        pytest.skip("torch lays int4 out in another way on this processor")
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_key_value_heads": 2, "initializer_range": 0.1}
    checkpoint = open_checkpoint(make_checkpoint("llama", seed=3, tie_word_embeddings=tied, **sizes))
    request = LoadRequest(device="cpu", dtype=dtype, quantization=quantization, compile=False)
    model = load_model(checkpoint, weights(checkpoint), lambda progress: None, request).module
    assert type(model.get_input_embeddings()) is (Int8Embedding if tied else torch.nn.Embedding)
    with passes(model, Given(built)).some_rows():
        assert "forward" in vars(model)
        cache = PrefixCache(model.config)
        ours = feed(model, cache, PROMPT)
    own = feed(model, PrefixCache(model.config), PROMPT)
    assert (ours - own).norm() < 0.1 * own.norm()


def test_bfloat16_is_as_near_as_its_rounding(built: CDLL, make_checkpoint: Callable[..., Path]) -> None:
    model = load(make_checkpoint, "llama", initializer_range=0.1)
    rounded = model.bfloat16()
    caches = [PrefixCache(model.config) for _ in range(2)]
    for token in PROMPT:
        own = feed(rounded, caches[0], [token]).float()
        vars(rounded)["forward"] = step_of(rounded, built)
        ours = feed(rounded, caches[1], [token])
        del vars(rounded)["forward"]
        assert (ours - own).norm() < 0.1 * own.norm()
    assert caches[1].layers.layers[0].keys.dtype == torch.bfloat16


SIZES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 192, "intermediate_size": 416, "num_key_value_heads": 2, "attention_bias": True},
    "qwen3": {"hidden_size": 128, "intermediate_size": 75, "head_dim": 16},
}
"""Sums longer than a chunk of columns, and ends that no chunk, no lane and no side divides."""


@pytest.fixture(scope="module", params=SIZES)
def sized(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Any:
    return load(make_checkpoint, request.param, **SIZES[request.param])


CLOSE = 2e-5
"""As a share of a token's logits: several times what either way is away from the same in float64."""


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far tokens lie apart, (tokens, vocabulary), as a share of their logits; the furthest one."""
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


COUNTS = (2, 3, FEW - 1, FEW, LANES, LANES + 1, 2 * LANES, 2 * LANES + 3, 3 * LANES + 1, MOST)


@pytest.mark.parametrize("count", [*COUNTS, MOST + 1, 3 * MOST - 3])
@pytest.mark.parametrize("wanted", ["last", "some", "all"])
def test_some_tokens_of_a_text_give_the_models_own_logits(count: int, wanted: str, sized: Any, built: CDLL) -> None:
    """Each sees those before it, in the same pass or an earlier one; and so do those that come after."""
    more = [1 + (7 * each) % 97 for each in range(count)]
    rows = {"last": 1, "some": count // 2 + 1, "all": count}[wanted]
    logits = []
    for model, forward in ((sized, step_of(sized, built)), (sized, None), (copy.deepcopy(sized).double(), None)):
        cache = PrefixCache(model.config)
        feed(model, cache, PROMPT)
        if forward:
            vars(model)["forward"] = forward
        found = feed(model, cache, more, rows)
        vars(model).pop("forward", None)
        logits.append(torch.cat([found, feed(model, cache, [3])]))
    ours, own, exact = logits
    assert apart(ours, exact) < 3 * apart(own, exact)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_texts_of_a_batch_give_the_models_own_logits(count: int, threads: int, sized: Any, built: CDLL) -> None:
    """Of lengths that differ, with some that leave and one that joins, in turns with the model's own passes."""
    batches = [Columns(sized), Columns(sized)]
    for length in range(1, count + 1):
        cache = PrefixCache(sized.config)
        feed(sized, cache, [1 + (length * each) % 89 for each in range(length)])
        for batch in batches:
            batch.join(cache)
    way = Taken(sized, step_of(sized, built), 1, threads)
    for step in range(6):
        tokens = [1 + (5 * step + each) % 83 for each in range(len(batches[0].ids))]
        if step % 3 < 2:
            with way():
                ours = batches[0].feed(tokens)
        else:
            ours = batches[0].feed(tokens)
        assert apart(ours, batches[1].feed(tokens)) < CLOSE
        if step == 2 and count > 2:
            for batch in batches:
                batch.leave(1)
                batch.join(cache)
    assert batches[0].ids == batches[1].ids


def test_texts_that_share_passes_give_the_logits_of_each_alone(sized: Any, built: CDLL) -> None:
    """New ones and such that go on, some of them cut by the end of a pass."""
    step, ends = step_of(sized, built), []
    beginnings, more = (0, 30, 0, 1, 90, 0, 7), (5, 1, MOST + 9, 2, 40, 1, 60)
    together, alone = ([PrefixCache(sized.config) for _ in more] for _ in range(2))
    for cache in (*together, *alone):
        number = (together + alone).index(cache) % len(more)
        if beginnings[number]:
            feed(sized, cache, [1 + (3 * each + number) % 79 for each in range(beginnings[number])])
    ids = [[1 + (number + 13 * each) % 83 for each in range(count)] for number, count in enumerate(more)]
    with torch.inference_mode(), ExitStack() as stack:
        texts = [(stack.enter_context(cache.feeding(new)), new) for cache, new in zip(together, ids, strict=True)]
        found = step.texts(texts)
    ends = [feed(sized, cache, new)[0] for cache, new in zip(alone, ids, strict=True)]
    assert apart(found, torch.stack(ends)) < CLOSE
    after = [torch.cat([feed(sized, cache, [5]) for cache in caches]) for caches in (together, alone)]
    assert apart(*after) < CLOSE
    assert [cache.ids for cache in together] == [cache.ids for cache in alone]


@pytest.mark.parametrize("count", [2, LANES, 2 * LANES, 3 * LANES, MOST])
@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
def test_some_tokens_are_multiplied_as_one_is(
    count: int, precision: str, built: CDLL, make_checkpoint: Callable[..., Path]
) -> None:
    """Whether a weight is widened for a product of its own or for all of them."""
    if precision == "int4" and not int4_block():
        pytest.skip("torch lays int4 out in another way on this processor")
    sizes = {"hidden_size": 160, "intermediate_size": 192, "num_attention_heads": 5, "num_key_value_heads": 1}
    model = load(make_checkpoint, "llama", **sizes)
    if precision == "bfloat16":
        model = model.bfloat16()
    else:
        for name, layer in list(model.named_modules()):
            if type(layer) is torch.nn.Linear:
                instead = LINEARS["int8" if name == "lm_head" else cast(Quantization, precision)](
                    layer.in_features, layer.out_features, False
                )
                instead.take(layer.weight.detach())
                model.set_submodule(name, instead)
    vars(model)["forward"] = step_of(model, built)
    ids = [1 + (11 * each) % 101 for each in range(count)]
    one_by_one = PrefixCache(model.config)
    expected = torch.cat([feed(model, one_by_one, [each]) for each in ids])
    found = feed(model, PrefixCache(model.config), ids, count)
    # Numbers on the edge between two of bfloat16 fall to either side in the cache.
    assert apart(found, expected) < (1e-2 if precision == "bfloat16" else CLOSE)


def test_a_row_of_a_batch_that_is_left_alone_gives_the_same_logits(llama: Any, built: CDLL) -> None:
    way = Taken(llama, step_of(llama, built), 2)
    columns = Columns(llama)
    for length in (20, 25):
        cache = PrefixCache(llama.config)
        feed(llama, cache, PROMPT[:length])
        columns.join(cache)
    columns.feed([7, 8])
    columns.leave(0)
    plain = PrefixCache(llama.config)
    feed(llama, plain, [*PROMPT, 8])
    for token in (3, 4, 5, 6):
        with way():
            logits = columns.feed([token])
        torch.testing.assert_close(logits, feed(llama, plain, [token]), rtol=1e-4, atol=1e-4)
    assert columns.ids == [plain.ids]


def test_what_is_no_number_stays_none(llama: Any, built: CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(llama, built)
    monkeypatch.setattr(step, "_embedding", lambda ids: torch.full((1, 32), torch.nan))
    monkeypatch.setitem(vars(llama), "forward", step)
    assert feed(llama, PrefixCache(llama.config), [3]).isnan().all()


class Given:
    """A library that is built after some calls."""

    def __init__(self, found: object, after: int = 0) -> None:
        self.found, self.left = found, after

    def loaded(self) -> Any:
        self.left -= 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found if self.left < 0 else None


def passes(model: Any, given: Given) -> NativePasses:
    return NativePasses(model, cast(Library, given))


def by_step(model: Any, way: Way) -> bool:
    with way():
        return "forward" in vars(model)


def timed(monkeypatch: pytest.MonkeyPatch, *took: float) -> None:
    """A clock by which what is measured takes so long, one after the other."""
    ticks = iter(tick for each in took for tick in (0.0, each))
    monkeypatch.setattr("chatcli.runtime.native.passes.time.perf_counter", lambda: next(ticks))


def test_it_takes_over_once_it_is_built_and_proved(llama: Any, built: CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 1, 1, 2, 2)
    way = passes(llama, Given(built, after=2)).one_row(AS_TORCH_DOES)
    assert [by_step(llama, way) for _ in range(4)] == [False, False, True, True]
    assert "forward" not in vars(llama)


def test_a_token_is_left_to_what_is_faster_for_it(llama: Any, built: CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, 2, 2, 1, 1)
    assert not by_step(llama, passes(llama, Given(built)).one_row(AS_TORCH_DOES))


def test_what_computes_something_else_is_not_taken(llama: Any, built: CDLL) -> None:
    def forgetful(model: Any, call: Any, *told: Any) -> None:
        """A step whose tokens see themselves alone."""
        first = call._obj.fed[0]
        first.first, first.tokens = first.tokens - 1, 1
        built.some_tokens(model, call, *told)

    native = passes(llama, Given(SimpleNamespace(some_tokens=forgetful, pieces_of_work=built.pieces_of_work)))
    assert not by_step(llama, native.some_rows)
    assert not by_step(llama, native.one_row(AS_TORCH_DOES))


@pytest.mark.parametrize(("own", "ours"), [(1.0, 2.0), (2.0, 1.0)])
def test_several_tokens_are_left_to_what_took_less_for_as_many(
    own: float, ours: float, llama: Any, built: CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is faster for one token."""
    timed(monkeypatch, 1, 1, 1, 1, *(each for part in (1, 2) for each in (ours * part, ours, own, own * part)))
    native, cache, calls = passes(llama, Given(built)), PrefixCache(llama.config), [0]
    by_torch = llama.model.register_forward_pre_hook(lambda *_: calls.append(calls.pop() + 1))
    try:
        with native.some_rows():
            before = calls[0]
            for count in (7, 8, 6, 8, 7, 8):  # all in as many lanes
                feed(llama, cache, list(range(1, count + 1)))
            assert calls[0] - before == (2 if ours < own else 4)
            for count in (20, 20, 20, 20, 20):
                feed(llama, cache, list(range(1, count + 1)))
            assert calls[0] - before == (4 if ours < own else 7)
    finally:
        by_torch.remove()
    whole = PrefixCache(llama.config)
    feed(llama, whole, cache.ids)
    torch.testing.assert_close(feed(llama, cache, [5]), feed(llama, whole, [5]), rtol=1e-4, atol=1e-4)


def test_a_prompt_that_is_given_up_leaves_no_trace(llama: Any, built: CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before which layer, of which part of it, whoever waits has left."""
    monkeypatch.setitem(vars(llama), "forward", step_of(llama, built))
    cache, prompt = PrefixCache(llama.config), [1 + 7 * each % 97 for each in range(3 * MOST)]
    feed(llama, cache, PROMPT)
    for after in range(5):
        left = [after]

        def unwanted(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with pytest.raises(GivenUpError), given_up(layers_of(llama), unwanted):
            feed(llama, cache, prompt)
        assert left == [-1]
        assert cache.ids == PROMPT
    fresh = PrefixCache(llama.config)
    feed(llama, fresh, PROMPT)
    assert torch.equal(feed(llama, cache, prompt), feed(llama, fresh, prompt))


def test_what_cannot_be_built_is_asked_for_once(llama: Any) -> None:
    given = Given(CannotBuildError("there is no C compiler"))
    native = passes(llama, given)
    assert not by_step(llama, native.one_row(AS_TORCH_DOES))
    assert not by_step(llama, native.some_rows)
    assert given.left == -1


@pytest.mark.parametrize("compile_", [False, None, True])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_model_is_loaded_with_it_unless_nobody_wants_it(
    family: str,
    compile_: bool | None,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is none, only who asked for it hears of that."""
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    checkpoint = open_checkpoint(make_checkpoint(family, head_dim=8), "org/tiny")
    said: list[str] = []
    model = load_model(
        checkpoint, weights(checkpoint), lambda progress: said.append(progress.note), LoadRequest(compile=compile_)
    )
    notes = [each for each in said if "--compile" in each]
    assert (model.some_rows is not AS_TORCH_DOES) is (family == "llama" and compile_ is not False)
    assert bool(notes) is (family == "gemma2" and compile_ is True)
    assert all("family gemma2" in each for each in notes)


@pytest.mark.parametrize(
    ("family", "config", "why"),
    [
        ("gemma2", {"head_dim": 8}, "the family gemma2"),
        ("mistral", {"sliding_window": 16}, "sliding window"),
        ("llama", {"hidden_act": "gelu"}, "gelu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "change with the"),
        ("llama", {"hidden_size": 48}, "heads of 12"),
    ],
)
def test_other_models_are_left_alone(
    family: str, config: dict[str, Any], why: str, make_checkpoint: Callable[..., Path]
) -> None:
    with pytest.raises(NotOfThisShapeError, match=why):
        Step(load(make_checkpoint, family, **config))


def test_layers_of_another_kind_are_left_alone(make_checkpoint: Callable[..., Path]) -> None:
    model = load(make_checkpoint, "llama")

    class Adapted(torch.nn.Linear):
        pass

    model.model.layers[1].mlp.up_proj.__class__ = Adapted
    with pytest.raises(NotOfThisShapeError, match="Adapted"):
        Step(model)


def test_a_model_with_an_adapter_around_it_is_left_alone(make_checkpoint: Callable[..., Path]) -> None:
    class Around(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model, self.config, self.get_input_embeddings = model, model.config, model.get_input_embeddings

    with pytest.raises(NotOfThisShapeError, match="like this"):
        Step(Around(load(make_checkpoint, "llama")))


def test_it_is_built_once(built: CDLL, tmp_path: Path) -> None:
    shutil.copy(built._name, tmp_path)
    assert Library(tmp_path, {"PATH": ""}).loaded()


def test_without_a_compiler_there_is_none(tmp_path: Path) -> None:
    library(home := {"CHATCLI_HOME": str(tmp_path), "CC": "no-such-compiler", "PATH": "/bin:/usr/bin"})
    with pytest.raises(CannotBuildError, match="no C compiler"):
        library(home).require()


def test_a_compiler_that_fails_leaves_none(tmp_path: Path) -> None:
    found = library({"CHATCLI_HOME": str(tmp_path), "CC": "false", "PATH": "/bin:/usr/bin"})
    with pytest.raises(CannotBuildError, match="gives up"):
        while found.loaded() is None:
            time.sleep(0.01)


def test_nothing_is_loaded_from_where_others_can_write(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "compiled"
    place.mkdir(parents=True)
    place.chmod(0o777)
    with pytest.raises(CannotBuildError, match="others"):
        library({"CHATCLI_HOME": str(tmp_path)})
