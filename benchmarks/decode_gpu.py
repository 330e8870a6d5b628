"""Decoding on a GPU: ours with the recorded step, compiled, as it is and without, and `generate()`; a random 7B Llama.

python benchmarks/decode_gpu.py [--rounds 5] [--prompt 64] [--tokens 256] [--layers 32]

Prints tokens a second, the share of the rate at which the same GPU copies in the same run (target: 0.85), the ratio to
`generate()` (target: 3), and what recording adds to the first reply (target: below 2 s).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import chatcli.runtime  # noqa: F401  before torch: how its threads wait

SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
WAYS = ("chatcli, recorded, `--compile`", "chatcli, recorded", "chatcli, not recorded", "generate() with a streamer")


def random_model(layers: int) -> Any:
    """A Llama of 7B's width in bfloat16, its weights made on the GPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, num_hidden_layers=layers)).eval()
    torch.set_default_dtype(torch.float32)
    return model


def main() -> None:
    """All ways in turn; medians, and ratios of the same round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=32)
    said = parser.parse_args()
    import torch

    from chatcli.runtime.bench import bandwidth, ours_once, plain_once
    from chatcli.runtime.model import CausalModel, bytes_per_token

    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU here.")
    module = random_model(said.layers)
    compiled, recorded, plain = (CausalModel(module) for _ in range(3))
    plain.steps = None
    ids = list(range(100, 100 + said.prompt))
    ours_once(plain, ids, 8)
    firsts = []
    for _ in range(2):  # the first records
        begun = time.perf_counter()
        ours_once(recorded, ids, said.tokens)
        firsts.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    can_compile = compiled.steps is not None and compiled.steps.compile()
    compiling = time.perf_counter() - begun
    rows: list[tuple[float, ...]] = []
    rates = []
    for number in range(said.rounds + 1):
        beside = plain_once(module, ids, said.tokens)
        assert beside
        found = *(ours_once(each, ids, said.tokens).decode for each in (compiled, recorded, plain)), beside.decode
        if number:
            rows.append(found)
            rates.append(bandwidth(module))
    rate, read = statistics.median(rates), bytes_per_token(module)
    print(f"{torch.cuda.get_device_name()}, copy {rate / 1e9:.0f} GB/s, {read / 1e9:.2f} GB a token")
    print(f"recording adds {firsts[0] - firsts[1]:.2f} s to the first reply")
    print(f"compiling {'took' if can_compile else 'failed after'} {compiling:.0f} s\n")
    print("| way | tokens/s | share of the copy's rate | times generate() |\n|---|---|---|---|")
    for at, name in enumerate(WAYS):
        decode = statistics.median(row[at] for row in rows)
        ratio = statistics.median(row[at] / row[-1] for row in rows)
        print(f"| {name} | {decode:.1f} | {decode * read / rate:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
