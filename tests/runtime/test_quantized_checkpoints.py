"""Checkpoints with real files of each format for quantised weights that a CPU can run, loaded as a person would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from chatcli.errors import ModelError
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.weights import weights
from chatcli.runtime.model import CausalModel, load

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
GROUP = 32
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The numbers of FP4 (E2M1) by their codes: OCP Microscaling Formats 1.0, 5.3.3."""


def opened(folder: Path, notes: list[str] | None = None) -> CausalModel:
    checkpoint = open_checkpoint(folder)
    heard = notes if notes is not None else []
    return load(checkpoint, weights(checkpoint), lambda p: heard.append(p.note) if p.note else None)


def logits(model: CausalModel) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model._model(torch.arange(5, 35)[None]).logits
    return found.float()


def check(folder: Path, reference: Path, limit: float, precision: str) -> None:
    """The folder says what the reference says, whose weights are the unpacked ones."""
    model = opened(folder)
    expected, found = logits(opened(reference)), logits(model)
    assert float((found - expected).norm() / expected.norm()) < limit
    assert model.precision == precision
    assert len([i for i in model.generate(list(range(5, 30)), GREEDY, end=(), limit=8) if isinstance(i, int)]) == 8


def with_weights(source: Path, folder: Path, change: Callable[[str, Tensor], Mapping[str, Tensor]], said: Any) -> Path:
    """A copy with other tensors, and with what config.json says of their packing."""
    shutil.copytree(source, folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        tensors |= change(name, tensor)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **({"quantization_config": said} if said else {})}))
    return folder


def of_linear(pack: Callable[[Tensor], Mapping[str, Tensor]]) -> Callable[[str, Tensor], Mapping[str, Tensor]]:
    def change(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if not name.endswith("proj.weight"):
            return {name: tensor}
        return {name.removesuffix("weight") + part: value for part, value in pack(tensor).items()}

    return change


def words(codes: Tensor) -> Tensor:
    """Eight 4-bit codes along the last dimension to an int32 word, the first in the lowest bits."""
    parts = codes.to(torch.int64).unflatten(-1, (-1, 8)) << torch.arange(0, 32, 4)
    return parts.sum(-1).to(torch.int32)


def grouped(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (in, out), zeros and scales (groups, out) of 4 bits."""
    groups = weight.t().unflatten(0, (-1, GROUP))
    low, high = groups.amin(1), groups.amax(1)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(1, 15)
    codes = (groups / scales[:, None] + zeros[:, None]).round().clamp(0, 15)
    return codes.flatten(0, 1), zeros, scales


def regrouped(weight: Tensor) -> Mapping[str, Tensor]:
    codes, zeros, scales = grouped(weight)
    back = (codes.unflatten(0, (-1, GROUP)) - zeros[:, None]) * scales[:, None]
    return {"weight": back.flatten(0, 1).t()}


def gptq(weight: Tensor) -> Mapping[str, Tensor]:
    codes, zeros, scales = grouped(weight)
    index = torch.arange(len(codes), dtype=torch.int32) // GROUP
    return {"qweight": words(codes.t()).t(), "qzeros": words(zeros - 1), "scales": scales.half(), "g_idx": index}


def awq(weight: Tensor) -> Mapping[str, Tensor]:
    def interleaved(codes: Tensor) -> Tensor:
        return codes.unflatten(-1, (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]].flatten(-2)

    codes, zeros, scales = grouped(weight)
    return {"qweight": words(interleaved(codes)), "qzeros": words(interleaved(zeros)), "scales": scales.half()}


SAID = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"},
}


@pytest.mark.parametrize(("method", "pack"), [("gptq", gptq), ("awq", awq)])
def test_gptq_and_awq(tiny_llama: Path, tmp_path: Path, method: str, pack: Any) -> None:
    packed = with_weights(tiny_llama, tmp_path / method, of_linear(pack), SAID[method])
    check(packed, with_weights(tiny_llama, tmp_path / "plain", of_linear(regrouped), None), 0.04, f"{method} int4")


def test_packed_experts_are_refused_in_a_sentence(tiny_llama: Path, tmp_path: Path) -> None:
    def renamed(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        return of_linear(gptq)(name.replace("mlp.up_proj", "mlp.experts.0.up_proj"), tensor)

    folder = with_weights(tiny_llama, tmp_path / "experts", renamed, SAID["gptq"])
    with pytest.raises(ModelError, match=r"experts\.0\.up_proj is packed by GPTQ.*--quant int4\.$"):
        opened(folder)


def fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of 16 by 16 that share a scale, as DeepSeek's of 128 do."""
    blocks = weight.unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
    scale = blocks.abs().amax((1, 3)) / 448
    return (blocks / scale[:, None, :, None]).flatten(2).flatten(0, 1).to(torch.float8_e4m3fn), scale


def test_fp8_in_blocks(tiny_llama: Path, tmp_path: Path) -> None:
    def unpacked(weight: Tensor) -> Mapping[str, Tensor]:
        codes, scale = fp8(weight)
        return {"weight": codes.float() * scale.repeat_interleave(16, 0).repeat_interleave(16, 1)}

    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [16, 16]}
    pack = of_linear(lambda weight: dict(zip(("weight", "weight_scale_inv"), fp8(weight), strict=True)))
    folder = with_weights(tiny_llama, tmp_path / "fp8", pack, said)
    notes: list[str] = []
    opened(folder, notes)
    assert len(notes) == 1
    assert notes[0].startswith("Weights unpacked from fp8 to ")
    reference = with_weights(tiny_llama, tmp_path / "plain", of_linear(unpacked), None)
    check(folder, reference, 0.001, opened(reference).precision)


def test_mxfp4_of_gpt_oss(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """32 numbers of FP4 share a power of two: OCP Microscaling Formats 1.0; the low half of a byte comes first."""
    source = make_checkpoint("gpt_oss", num_local_experts=4, head_dim=8, layer_types=["full_attention"] * 2)

    def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
        blocks = weight.transpose(1, 2).unflatten(-1, (-1, 32))
        exponent = blocks.abs().amax(-1).log2().floor() - 2
        codes = ((blocks / 2 ** exponent[..., None])[..., None] - FP4).abs().argmin(-1)
        return codes, exponent

    def packed(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if not name.endswith(("gate_up_proj", "down_proj")):
            return {name: tensor}
        codes, exponent = rounded(tensor)
        blocks = (codes[..., ::2] | codes[..., 1::2] << 4).to(torch.uint8)
        return {f"{name}_blocks": blocks, f"{name}_scales": (exponent + 127).to(torch.uint8)}

    def plain(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if not name.endswith(("gate_up_proj", "down_proj")):
            return {name: tensor}
        codes, exponent = rounded(tensor)
        return {name: (FP4[codes] * 2 ** exponent[..., None]).flatten(-2).transpose(1, 2)}

    folder = with_weights(source, tmp_path / "mxfp4", packed, {"quant_method": "mxfp4"})
    reference = with_weights(source, tmp_path / "plain", plain, None)
    check(folder, reference, 0.001, opened(reference).precision)


@pytest.mark.parametrize(("options", "limit"), [({"load_in_8bit": True}, 0.05), ({"load_in_4bit": True}, 0.05)])
def test_bitsandbytes(
    tiny_llama: Path, tmp_path: Path, options: dict[str, bool], limit: float, caplog: pytest.LogCaptureFixture
) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    from transformers import BitsAndBytesConfig

    folder = saved(tiny_llama, tmp_path / "bnb", BitsAndBytesConfig(bnb_4bit_quant_type="nf4", **options))

    def unpacked(weight: Tensor) -> Mapping[str, Tensor]:
        if "load_in_8bit" in options:
            scale = weight.abs().amax(1, keepdim=True) / 127
            return {"weight": (weight / scale).round() * scale}
        return {"weight": functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4"))}

    reference = with_weights(tiny_llama, tmp_path / "plain", of_linear(unpacked), None)
    check(folder, reference, limit, "bitsandbytes")
    assert not caplog.text


def test_torchao(tiny_llama: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    folder = saved(tiny_llama, tmp_path / "ao", TorchAoConfig(quantization.Int8WeightOnlyConfig()))

    def unpacked(weight: Tensor) -> Mapping[str, Tensor]:
        scale = weight.abs().amax(1, keepdim=True) / 127.5
        return {"weight": (weight / scale).round().clamp(-128, 127) * scale}

    check(folder, with_weights(tiny_llama, tmp_path / "plain", of_linear(unpacked), None), 0.02, "torchao")


def saved(source: Path, folder: Path, config: Any) -> Path:
    """What the format's own package makes of a checkpoint."""
    shutil.copytree(source, folder)
    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=config, device_map="cpu", dtype=torch.float32
    )
    model.save_pretrained(folder)
    return folder


def test_compressed_tensors(tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Int4 in groups of 32, as llm-compressor writes it ("pack-quantized")."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme
    from compressed_tensors.quantization.utils import calculate_qparams

    scheme = preset_name_to_scheme("W4A16", ["Linear"])
    scheme.weights.group_size = GROUP
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    apply_quantization_config(
        model, QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"], quantization_status="frozen")
    )
    plain: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and hasattr(module, "weight_scale"):
            groups = module.weight.detach().unflatten(-1, (-1, GROUP))
            scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
            module.weight_scale.data.copy_(scale)
            module.weight_zero_point.data.copy_(zero)
            plain[f"{name}.weight"] = ((groups / scale[..., None]).round().clamp(-8, 7) * scale[..., None]).flatten(-2)
    folder = tmp_path / "compressed"
    shutil.copytree(tiny_llama, folder)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    reference = with_weights(tiny_llama, tmp_path / "plain", lambda n, t: {n: plain.get(n, t)}, None)
    capfd.readouterr()
    check(folder, reference, 0.005, opened(reference).precision)
    assert capfd.readouterr() == ("", "")
