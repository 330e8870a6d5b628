"""Prompts in float32 over bfloat16 weights: the same products, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime import upcast
from chatcli.runtime.model import CausalModel
from chatcli.runtime.upcast import UpcastLinear, upcast_prompts

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)


@pytest.mark.parametrize("rows", [1, upcast.ROWS - 1, upcast.ROWS, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_float32_rounded_once(rows: int, bias: bool, without_bf16: None) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(1, rows, 64, dtype=torch.bfloat16)
    exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    upcast_prompts(layer)
    assert type(layer) is UpcastLinear
    with torch.inference_mode():
        made = layer(x)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.double(), exact, rtol=2**-8, atol=1e-3)
    if rows >= upcast.ROWS:
        assert torch.equal(made, exact.to(torch.bfloat16))


def test_the_answers_are_those_of_the_model_as_it_was(make_checkpoint: Callable[..., Path], without_bf16: None) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(make_checkpoint("llama", seed=2), dtype=torch.bfloat16).eval()
    talking = CausalModel(model)

    def answer() -> list[int]:
        talking.forget()
        made = talking.generate(list(range(5, 40)), GREEDY, end=(), limit=20)
        return [each for each in made if not isinstance(each, Progress)]

    expected = answer()
    upcast_prompts(model)
    assert any(type(layer) is UpcastLinear for layer in model.modules())
    assert answer() == expected


def test_what_is_not_bfloat16_on_such_a_cpu_is_left_alone(without_bf16: None, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, device="meta", dtype=torch.bfloat16)])
    upcast_prompts(layers)
    assert all(type(layer) is torch.nn.Linear for layer in layers)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    able = torch.nn.Linear(4, 4, dtype=torch.bfloat16)
    upcast_prompts(able)
    assert type(able) is torch.nn.Linear
