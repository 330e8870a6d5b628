"""Models in GGUF files: what they compute is what their numbers say, whoever unpacks them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
from gguf.quants import dequantize
from gguf_files import permuted, write_gguf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import Device, LoadPlan, plan
from chatcli.models.weights import weights
from chatcli.runtime.load import load_model

WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
IDS = torch.arange(3, 33)[None]


def loaded(path: Path, dtype: str = "float32") -> Any:
    checkpoint = open_checkpoint(path)
    return load_model(checkpoint, weights(checkpoint), LoadPlan(dtype, "cpu", "single", 0, 0), lambda progress: None)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS.to(model.device)).logits


def reference(path: Path, checkpoint: Path, architecture: str) -> torch.Tensor:
    """The logits of the checkpoint with the numbers of the GGUF file, as the `gguf` package reads them."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    stored = {each.name: dequantize(each.data, each.tensor_type) for each in gguf.GGUFReader(path).tensors}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for name, tensor in model.state_dict().items():
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found not in stored:  # an output that is tied to the embedding
            continue
        numbers = stored[found].reshape(tensor.shape)
        if architecture == "llama" and (each := heads.get(found.split(".")[-2])):
            order = permuted(numpy.arange(len(numbers)), each)
            numbers = numbers[numpy.argsort(order)]
        state[name] = torch.from_numpy(numbers.copy())
    model.load_state_dict(state, strict=False)
    return logits(model)


@pytest.fixture(scope="module")
def wide_llama(make_checkpoint: Callable[..., Path]) -> Path:
    """Rows of 256, as the K quants need them."""
    return make_checkpoint("llama", **WIDE)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_a_llama_computes_with_the_numbers_in_the_file(wide_llama, tmp_path, kind: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", kind)
    assert {each.dtype for each in weights(open_checkpoint(path)).tensors.values()} == {kind, "F32"}
    torch.testing.assert_close(logits(loaded(path)), reference(path, wide_llama, "llama"))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen3", {"head_dim": 16}),
    ],
)
def test_other_families(make_checkpoint, tmp_path, architecture: str, config: dict[str, Any]) -> None:
    folder = make_checkpoint(architecture, **config)
    said = {f"{architecture}__attention__key_length": config["head_dim"]} if "head_dim" in config else {}
    path = write_gguf(tmp_path / "model.gguf", folder, architecture, "Q8_0", **said)
    torch.testing.assert_close(logits(loaded(path)), reference(path, folder, architecture))


def test_a_mixture_of_experts_is_taken_apart(make_checkpoint, tmp_path) -> None:
    """The file holds one tensor for all experts of a layer; what it computes is what the checkpoint does."""
    folder = make_checkpoint(
        "qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16, norm_topk_prob=True
    )
    expected = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    together = tmp_path / "together"
    together.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (together / name).write_bytes((folder / name).read_bytes())
    save_file(_joined(load_file(folder / "model.safetensors")), together / "model.safetensors")
    said = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32, "attention.key_length": 16}
    entries = {f"qwen3moe.{key}": value for key, value in said.items()}
    path = write_gguf(tmp_path / "model.gguf", together, "qwen3moe", **entries)
    torch.testing.assert_close(logits(loaded(path)), expected)


def _joined(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The experts of each layer in one tensor, under the names that `gguf` knows."""
    found = {name: tensor for name, tensor in state.items() if ".experts." not in name}
    experts = sorted({name.split(".experts.")[0] for name in state if ".experts." in name})
    for layer in experts:
        for kind in ("gate", "up", "down"):
            each = [state[f"{layer}.experts.{number}.{kind}_proj.weight"] for number in range(4)]
            found[f"{layer}.experts.{kind}_proj.weight"] = torch.stack(each)
    return found


def test_the_factors_of_llama_3_are_heeded(make_checkpoint, tmp_path) -> None:
    """llama.cpp stores by how much each frequency is stretched as a tensor, and transformers' own reader loses it."""
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64, "rope_theta": 10000.0}
    folder = make_checkpoint("llama", rope_parameters=rope)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = 1 / 10000.0 ** (torch.arange(0, 8, 2) / 8)
    factors = (plain / model.model.rotary_emb.inv_freq).numpy()
    assert factors.max() > 1.5
    path = write_gguf(tmp_path / "model.gguf", folder, "llama", extra={"rope_freqs.weight": factors})
    torch.testing.assert_close(logits(loaded(path)), logits(model), atol=1e-4, rtol=1e-4)


def test_norms_of_gemma_are_stored_with_one_added(make_checkpoint, tmp_path) -> None:
    folder = make_checkpoint("gemma2", head_dim=16, query_pre_attn_scalar=16, sliding_window=8)
    said = {"attention.key_length": 16, "attention.sliding_window": 8}
    said |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    path = write_gguf(
        tmp_path / "model.gguf",
        folder,
        "gemma2",
        change=lambda name, numbers: numbers + 1 if name.endswith("norm.weight") else numbers,
        **{f"gemma2.{key}": value for key, value in said.items()},
    )
    expected = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    torch.testing.assert_close(logits(loaded(path)), expected, atol=1e-5, rtol=1e-5)


def test_it_is_rounded_once_to_the_precision_of_the_plan(wide_llama, tmp_path) -> None:
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", "Q8_0")
    whole, rounded = loaded(path), dict(loaded(path, "bfloat16").named_parameters())
    assert all(torch.equal(weight.bfloat16(), rounded[name]) for name, weight in whole.named_parameters())


def test_the_plan_sees_what_the_blocks_become(wide_llama, tmp_path) -> None:
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", "Q4_0")
    checkpoint = open_checkpoint(path)
    found = weights(checkpoint)
    chosen = plan(checkpoint.config, found.tensors, [Device("cpu", 0, 1 << 34, True)])
    assert chosen.dtype == "bfloat16"
    assert chosen.weights_bytes == 2 * sum(weight.numel() for weight in loaded(path).parameters())


def test_a_tensor_without_a_place_is_named(wide_llama, tmp_path) -> None:
    extra = {"blk.0.attn_sinks.weight": numpy.ones(4, dtype=numpy.float32)}
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", extra=extra)
    with pytest.raises(BrokenCheckpoint, match="attn_sinks"):
        loaded(path)


def test_a_missing_tensor_is_named(wide_llama, tmp_path) -> None:
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", without="blk.1.ffn_up.weight")
    with pytest.raises(BrokenCheckpoint, match=r"lacks 1 of its model's tensors, model\.layers\.1\.mlp\.up_proj"):
        loaded(path)


def test_a_family_that_is_not_known_is_named(wide_llama, tmp_path) -> None:
    path = write_gguf(tmp_path / "model.gguf", wide_llama, "llama", **{"general.architecture": "rwkv7"})
    with pytest.raises(BrokenCheckpoint, match="family rwkv7, which cannot be read from GGUF"):
        open_checkpoint(path)
    path = write_gguf(tmp_path / "lora.gguf", wide_llama, "llama", **{"general.type": "adapter"})
    with pytest.raises(BrokenCheckpoint, match="is no whole model"):
        open_checkpoint(path)
