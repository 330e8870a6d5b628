"""How fast a CPU computes in each precision: decoding one token and reading 256, on a Llama of a given size.

`python benchmarks/quantize.py [LAYERS]` prints a table of ratios to float32 taken in one run, all sides in turn; with
torchao installed, its int8 weights beside ours.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import chatcli.runtime  # noqa: F401  before torch: how its threads wait

ROUNDS = 5
TOKENS = 8


def main() -> None:
    """Measure and print."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    layers = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=12, vocab_size=8000
    )
    plain = LlamaForCausalLM(config).eval()
    models = {
        "float32": plain,
        "bfloat16": copy.deepcopy(plain).bfloat16(),
        "int8": quantized(plain, "int8"),
        "int4": quantized(plain, "int4"),
    }
    if find_spec("torchao"):
        models["int8 of torchao"] = by_torchao(plain)
    steps = {name: (reading(model), decoding(model)) for name, model in models.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for name, (read, decode) in steps.items():
                times[name].append((timed(read), timed(decode)))
    base = [statistics.median(each) for each in zip(*times["float32"][1:], strict=True)]
    print(f"{torch.get_num_threads()} threads, {layers} layers of 768; times faster than float32")
    for name, found in times.items():
        read, decode = (statistics.median(each) for each in zip(*found[1:], strict=True))
        print(f"{name:16} reading {base[0] / read:5.2f}x   decoding {base[1] / decode:5.2f}x")


def quantized(model: Any, quantization: Any) -> Any:
    """The model with our layers."""
    from torch import nn

    from chatcli.runtime.quantized_layers import LINEARS

    made = copy.deepcopy(model)
    for name, each in list(made.model.named_modules()):
        if type(each) is nn.Linear:
            layer = LINEARS[quantization](each.in_features, each.out_features, bias=False)
            layer.take(each.weight.detach())
            made.model.set_submodule(name, layer)
    return made


def by_torchao(model: Any) -> Any:
    """The model with torchao's int8 weights."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    made = copy.deepcopy(model)
    quantize_(made.model, Int8WeightOnlyConfig(set_inductor_config=False))
    return made


def reading(model: Any) -> Callable[[], Any]:
    """Reads 256 tokens."""
    import torch

    return lambda: model(torch.arange(256)[None], logits_to_keep=1)


def decoding(model: Any) -> Callable[[], Any]:
    """Decodes some tokens."""
    import torch

    return lambda: model.generate(torch.arange(8)[None], max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)


def timed(step: Callable[[], Any]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
