"""Quantising while loading: the very model with packed weights, nothing else of it touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chatcli.errors import BrokenCheckpoint, UsageError
from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.load_request import LoadRequest, Quantization
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import plan
from chatcli.models.weights import weights
from chatcli.runtime.devices import devices
from chatcli.runtime.load import load_model
from chatcli.runtime.model import CausalModel, load
from chatcli.runtime.packing import UNPACK, pack
from chatcli.runtime.quantize import model_bytes
from chatcli.runtime.quantized_layers import Int8Embedding, Int8Linear, QuantizedExperts, QuantizedLinear

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
CHATGLM = Path(__file__).parent.parent / "golden" / "chatglm"
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "mixtral": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8, "layer_types": ["full_attention"] * 2},
    "gpt_neox": {"num_key_value_heads": None},
}


def opened(folder: Path, quantization: Quantization, notes: list[str] | None = None) -> Any:
    checkpoint = open_checkpoint(folder)
    heard: Callable[[Progress], None] = lambda p: notes.append(p.note) if notes is not None and p.note else None  # noqa: E731
    return load(checkpoint, weights(checkpoint), heard, LoadRequest(dtype="float32", quantization=quantization))


def answer(model: CausalModel, prompt: list[int], length: int = 12) -> list[int]:
    return [i for i in model.generate(prompt, GREEDY, end=(), limit=length) if isinstance(i, int)]


def unpacked(model: Any, quantization: Quantization) -> Any:
    """A plain model, its weights rounded to what the packed ones stand for, by a way of its own over module names."""
    for name, module in model.named_modules():
        if module is model.get_output_embeddings():
            if module.weight is not model.get_input_embeddings().weight:
                _round(module, "weight", "int8")
        elif type(module) is nn.Linear and name.split(".")[-1] != "gate":
            _round(module, "weight", quantization)
        elif name.endswith(".experts"):
            for each in ("gate_up_proj", "down_proj"):
                _round(module, each, quantization)
    return model


def _round(module: nn.Module, name: str, quantization: Quantization) -> None:
    weight = getattr(module, name).data
    if quantization == "int4" and weight.shape[-1] % 32:
        return  # no groups
    weight.copy_(UNPACK[quantization](pack(weight, quantization), torch.float32))


@pytest.fixture(scope="module", params=[*FAMILIES, "chatglm2"])
def folder(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Path:
    if request.param in FAMILIES:
        return make_checkpoint(request.param, seed=3, **FAMILIES[request.param])
    return CHATGLM / str(request.param)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_quantized_model_is_the_model_with_rounded_weights(folder: Path, quantization: Quantization) -> None:
    """Its layers read and answer in bfloat16: it is as near to the exact answer as that model is in bfloat16.

    Medians of all positions: where two experts weigh nearly the same, a router may change its mind.
    """
    ids = torch.arange(5, 35)[None]
    model, plain = opened(folder, quantization), opened(folder, "none")._model
    with torch.inference_mode():
        found, original = model._model(ids).logits, plain(ids).logits
        exact = unpacked(plain, quantization)(ids).logits
        rough = plain.bfloat16()(ids).logits.float()
    assert any(isinstance(m, QuantizedLinear | QuantizedExperts) for m in model._model.modules())
    assert model.precision == quantization
    assert away(found, exact) <= 1.5 * away(rough, exact)
    if quantization == "int4":  # what the packing costs is far more than how it is computed
        assert away(found, exact) < away(original, exact) / 3


def away(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(((found - exact).norm(dim=-1) / exact.norm(dim=-1)).median())


def test_a_head_is_int8_and_so_is_the_embedding_if_it_is_one(folder: Path) -> None:
    plain, model = opened(folder, "none")._model, opened(folder, "int4")._model
    head, after = plain.get_output_embeddings(), model.get_output_embeddings()
    table, found = plain.get_input_embeddings(), model.get_input_embeddings()
    assert type(after) is Int8Linear
    codes, scale = pack(head.weight, "int8")
    assert torch.equal(after.weight, codes)
    if head.weight is not table.weight:
        assert torch.equal(table.weight, found.weight)
        return
    assert type(found) is Int8Embedding
    assert found.weight is after.weight
    ids = torch.tensor([[3, 0], [7, 3]])
    assert torch.equal(found(ids), (codes.float() * scale.float())[ids])
    assert model.dtype == found(ids).dtype == plain.dtype


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_an_embedding_that_scales_what_it_gives_stays_as_it_is(
    make_checkpoint: Callable[..., Path], quantization: Quantization
) -> None:
    folder = make_checkpoint("gemma2", seed=3, head_dim=8)
    plain, model = opened(folder, "none")._model, opened(folder, quantization)._model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(plain.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_plan_counts_what_is_loaded(
    make_checkpoint: Callable[..., Path], family: str, quantization: Quantization
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(family, seed=3, **FAMILIES[family]))
    request = LoadRequest(device="cpu", dtype="bfloat16", quantization=quantization)
    stored = weights(checkpoint)
    loaded = load(checkpoint, stored, lambda progress: None, request)
    counted = plan(checkpoint.config, stored.tensors, devices(), request, stored_bytes=stored.bytes)
    assert counted.weights_bytes == pytest.approx(model_bytes(loaded._model), rel=0.02)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_what_is_kept_of_a_talk_answers_as_what_is_read_anew(folder: Path, quantization: Quantization) -> None:
    talking = opened(folder, quantization)
    first = list(range(5, 30))
    made = answer(talking, first)
    second = [*first, *made, 7, 8, 9, 10]
    kept = answer(talking, second)
    talking.forget()
    assert answer(talking, second) == kept


def test_the_note_tells_what_was_saved(tiny_llama: Path) -> None:
    notes: list[str] = []
    full = model_bytes(opened(tiny_llama, "none")._model)
    small = model_bytes(opened(tiny_llama, "int4", notes)._model)
    assert notes == [f"Weights in int4: {small / 1e6:.1f} MB instead of {full / 1e6:.1f} MB."]
    assert small < full


def test_a_wide_model_shrinks_as_it_should(make_checkpoint: Callable[..., Path]) -> None:
    """Most of this one is linear layers: a byte a weight and a scale a row, half a byte and 4 bytes a group of 32."""
    wide = make_checkpoint(hidden_size=256, intermediate_size=1024)
    plain = opened(wide, "none")._model
    linear = sum(m.weight.numel() for m in plain.model.modules() if type(m) is nn.Linear)
    rows = sum(m.out_features for m in plain.model.modules() if type(m) is nn.Linear)
    head = plain.lm_head.weight.numel()
    rest = model_bytes(plain) - 4 * (linear + head) + head + 2 * plain.lm_head.out_features
    assert model_bytes(opened(wide, "int8")._model) == rest + linear + 2 * rows
    assert model_bytes(opened(wide, "int4")._model) == rest + linear // 2 + 4 * linear // 32


def test_fp8_is_refused_where_the_device_has_none(tiny_llama: Path) -> None:
    with pytest.raises(UsageError, match=r"^cpu does not compute fp8: --quant int8 .*\.$"):
        opened(tiny_llama, "fp8")


def test_a_missing_or_unfit_weight_is_told_as_without_quantising(tiny_llama: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    for change, said in (("lacking", "lacks 1 of its model's tensors"), ("unfit", "do not belong together|do not fit")):
        copy = tmp_path / change
        shutil.copytree(tiny_llama, copy)
        tensors = load_file(copy / "model.safetensors")
        name = "model.layers.1.mlp.up_proj.weight"
        if change == "lacking":
            del tensors[name]
        else:
            tensors[name] = tensors[name][:8].clone()
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BrokenCheckpoint, match=said):
            opened(copy, "int4")


def test_packed_layers_are_placed_by_accelerate_too(tiny_llama: Path) -> None:
    from chatcli.models.plan import plan
    from chatcli.runtime.devices import devices

    checkpoint = open_checkpoint(tiny_llama)
    found = weights(checkpoint)
    request = LoadRequest(dtype="float32", quantization="int8")
    chosen = plan(checkpoint.config, found.tensors, devices(), request)
    spread = replace(chosen, placement="auto", max_memory={"cpu": 10**9})
    model = CausalModel(load_model(checkpoint, found, spread, lambda progress: None))
    assert answer(model, list(range(5, 30))) == answer(opened(tiny_llama, "int8"), list(range(5, 30)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_dtype_is_what_a_person_says(tiny_llama: Path, dtype: str) -> None:
    checkpoint = open_checkpoint(tiny_llama)
    model = load(checkpoint, weights(checkpoint), lambda progress: None, LoadRequest(dtype=dtype))
    assert model.precision == dtype
    assert len(answer(model, list(range(5, 30)))) == 12
