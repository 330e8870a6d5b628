"""Adapters made by PEFT itself: what a model computes with them on is base + scale x B x A."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from gguf_files import write_gguf
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from chatcli.errors import BrokenCheckpoint, ChatcliError, ModelError
from chatcli.models.checkpoint import LoraFolder, open_checkpoint
from chatcli.models.lora import with_lora
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import weights
from chatcli.runtime.load import load_model
from chatcli.runtime.lora import put_on

IDS = torch.arange(3, 33)[None]
PLAN = LoadPlan("float32", "cpu", "single", 0, 0)


@pytest.fixture(scope="module")
def make_adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with an adapter of random numbers for the tiny Llama."""

    def make(config: peft.PeftConfig, seed: int = 0, base: Path = tiny_llama) -> Path:
        torch.manual_seed(seed)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        for name, weight in model.named_parameters():
            if "lora_" in name or "ia3_" in name:
                weight.data = torch.randn_like(weight) * 0.2
        folder = tmp_path_factory.mktemp("adapter")
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def adapter(make_adapter) -> Path:
    return make_adapter(lora())


def lora(**more: Any) -> peft.LoraConfig:
    return peft.LoraConfig(
        task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **more}
    )


def wearing(base: Path, *loras: tuple[Path, float]) -> Any:
    checkpoint = open_checkpoint(base, "base")
    for folder, scale in loras:
        checkpoint = with_lora(checkpoint, LoraFolder(folder.name, folder, scale))
    return load_model(checkpoint, weights(checkpoint), PLAN, lambda progress: None)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def expected(base: Path, *loras: tuple[Path, float]) -> torch.Tensor:
    """The logits of the base with scale x alpha / r x B x A added by hand."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for folder, scale in loras:
        said = json.loads((folder / "adapter_config.json").read_text())
        stored = load_file(folder / "adapter_model.safetensors")
        for name in (each for each in stored if each.endswith("lora_A.weight")):
            target = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            module = target.rpartition(".")[2]
            rank = said["rank_pattern"].get(module, said["r"])
            alpha = said["alpha_pattern"].get(module, said["lora_alpha"])
            strength = scale * alpha / (rank**0.5 if said["use_rslora"] else rank)
            change = stored[name.replace("lora_A", "lora_B")] @ stored[name]
            model.get_parameter(f"{target}.weight").data += strength * change
    return logits(model)


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0])
def test_an_adapter_is_merged_with_its_scale(tiny_llama, adapter, scale: float) -> None:
    model = wearing(tiny_llama, (adapter, scale))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not any("lora" in name for name, _ in model.named_modules())
    torch.testing.assert_close(logits(model), expected(tiny_llama, (adapter, scale)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(model), expected(tiny_llama), atol=0.1)


@pytest.mark.parametrize(
    "more", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}}]
)
def test_every_rank_and_alpha_counts(tiny_llama, make_adapter, more: dict[str, Any]) -> None:
    folder = make_adapter(lora(**more))
    found = logits(wearing(tiny_llama, (folder, 0.7)))
    torch.testing.assert_close(found, expected(tiny_llama, (folder, 0.7)), atol=1e-4, rtol=1e-4)


def test_several_add_up(tiny_llama, make_adapter, adapter) -> None:
    other = make_adapter(lora(r=2, target_modules=["v_proj", "q_proj"]), seed=1)
    both = ((adapter, 0.5), (other, 2.0))
    torch.testing.assert_close(logits(wearing(tiny_llama, *both)), expected(tiny_llama, *both), atol=1e-4, rtol=1e-4)


def test_a_gguf_model_wears_adapters(tiny_llama, adapter, tmp_path) -> None:
    path = write_gguf(tmp_path / "model.gguf", tiny_llama, "llama")
    found = logits(wearing(path, (adapter, 1.0)))
    torch.testing.assert_close(found, expected(tiny_llama, (adapter, 1.0)), atol=1e-4, rtol=1e-4)


def test_other_kinds_are_put_on_as_peft_does(tiny_llama, make_adapter) -> None:
    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]
    )
    folder = make_adapter(config)
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    reference = logits(peft.PeftModel.from_pretrained(base, str(folder)).eval())
    torch.testing.assert_close(logits(wearing(tiny_llama, (folder, 1.0))), reference, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match=r"of the kind IA3, which has no scale: leave out =0\.5"):
        wearing(tiny_llama, (folder, 0.5))


@pytest.fixture
def quantised(tiny_llama: Path) -> Any:
    """The tiny Llama with one weight that is no plain number any more."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    model.register_parameter("codes", torch.nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
    return model


def test_adapters_stay_beside_weights_that_are_quantised(quantised, tiny_llama, make_adapter, adapter) -> None:
    other = make_adapter(lora(r=2, target_modules=["v_proj", "q_proj"]), seed=1)
    both = ((adapter, 0.5), (other, 2.0))
    checkpoint = open_checkpoint(tiny_llama, "base")
    for folder, scale in both:
        checkpoint = with_lora(checkpoint, LoraFolder(folder.name, folder, scale))
    model = put_on(quantised, checkpoint)
    assert model is quantised
    assert any("lora" in name for name, _ in model.named_modules())
    torch.testing.assert_close(logits(model), expected(tiny_llama, *both), atol=1e-4, rtol=1e-4)


def said(error: pytest.ExceptionInfo[ChatcliError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_adapter_for_another_model_is_refused(tiny_llama, make_checkpoint, make_adapter, adapter) -> None:
    """Its shapes are others, its layers have other names, or there are more of them."""
    wider = make_checkpoint("llama", hidden_size=64)
    with pytest.raises(ModelError) as error:
        wearing(wider, (adapter, 1.0))
    assert said(error) == f"The adapter {adapter.name} is not made for base, but for {tiny_llama}."
    with pytest.raises(ModelError, match="is not made for base, but for"):
        wearing(make_checkpoint("gpt2", n_layer=2, n_head=4, n_embd=32), (adapter, 1.0))
    deeper = make_adapter(lora(), base=make_checkpoint("llama", num_hidden_layers=3))
    for unlike in ((tiny_llama, deeper), (make_checkpoint("llama", num_hidden_layers=3), adapter)):
        with pytest.raises(ModelError, match="is not made for base, but for"):
            wearing(unlike[0], (unlike[1], 1.0))


def test_a_damaged_adapter_is_said_to_be(tiny_llama, adapter, tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    with pytest.raises(BrokenCheckpoint, match=r"holds no adapter_model\.safetensors"):
        wearing(tiny_llama, (tmp_path, 1.0))
    content = (adapter / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(content[:-50])
    with pytest.raises(BrokenCheckpoint, match="cannot be put on") as error:
        wearing(tiny_llama, (tmp_path, 1.0))
    said(error)


def test_a_learned_prompt_is_no_adapter_of_weights(tiny_llama, make_adapter) -> None:
    folder = make_adapter(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match=r"is a learned prompt \(PROMPT_TUNING\)"):
        wearing(tiny_llama, (folder, 1.0))


def test_without_peft_the_extra_is_named(tiny_llama, adapter, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r'pip install "chatcli\[lora\]"'):
        wearing(tiny_llama, (adapter, 1.0))
