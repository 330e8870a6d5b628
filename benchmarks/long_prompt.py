"""Whether a prompt of 100,000 tokens runs within the memory that was planned for it, and how soon it can be given up.

python benchmarks/long_prompt.py [--tokens 100000] [--layers 2] [--hidden 256]

A random Llama on a CPU whose context holds that many tokens: RoPE scaled as Llama 3.1's is, four heads that share the
keys of two. It is loaded, asked and given up in a process of its own, as `chatcli run` does it, with its progress read
on the way; the plan is that of `chatcli models plan`. What the program itself takes is not in it, so that a model of a
few kilobytes answers before anything is measured. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

WORDS = 32000
GIVEN_UP = 0.9
"""The share of the prompt after which another question is asked and given up."""


def make_checkpoint(folder: Path, tokens: int, layers: int, hidden: int, words: int) -> None:
    """A Llama with random weights in float32 and no tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=words,
        max_position_embeddings=2 * tokens,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": tokens // 4,
        },
    )
    LlamaForCausalLM(shape).save_pretrained(folder)


def resident(name: str) -> int:
    """Bytes that /proc says of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[name].split()[0]) << 10


def read(small: str, folder: str, tokens: int) -> dict[str, Any]:
    """What reading the prompt takes, measured in this process."""
    from chatcli.runtime import loading

    with loading():
        from chatcli.runtime.model import load, planned
    from chatcli.generation import DEFAULTS, GenerationSettings, Progress
    from chatcli.load_request import LoadRequest
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.weights import weights

    settings = GenerationSettings(temperature=0.0).over(DEFAULTS)
    request = LoadRequest(device="cpu", context=tokens)

    def opened(place: str) -> tuple[Any, int]:
        checkpoint = open_checkpoint(Path(place))
        headers = weights(checkpoint)
        plan = planned(checkpoint, headers, request)
        return load(checkpoint, headers, lambda progress: None, request), plan.peak_bytes

    first, _ = opened(small)
    for _ in first.generate(list(range(300)), settings, end=(), limit=2):
        pass
    first.close()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = resident("VmRSS")
    model, plan = opened(folder)
    words = random.Random(0)
    ids = [words.randrange(WORDS) for _ in range(tokens)]

    begun = time.perf_counter()
    heard, signs = [begun], 0
    for item in model.generate(ids, settings, end=(), limit=2):
        heard.append(time.perf_counter())
        signs += isinstance(item, Progress)
        if isinstance(item, int):
            break
        print(f"\r{item.done:>7} of {item.total}", end="", file=sys.stderr, flush=True)
    return {
        "planned": plan,
        "peak": resident("VmHWM") - before,
        "seconds": heard[-1] - begun,
        "signs": signs,
        "silence": max(b - a for a, b in pairwise(heard)),
        "given up": given_up(model, ids, settings),
    }


def given_up(model: Any, ids: list[int], settings: Any) -> float:
    """The longest time until a question after most of the prompt, which is cached, was left, at five moments."""
    longest = 0.0
    for moment in range(5):
        items = model.generate(ids[: int(len(ids) * GIVEN_UP)] + [3 + moment] * 4096, settings, end=(), limit=1)
        next(items)  # what is cached
        next(items)  # a chunk is under way
        time.sleep(0.13 * moment)
        begun = time.perf_counter()
        items.close()
        longest = max(longest, time.perf_counter() - begun)
    return longest


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.read:
        print(json.dumps(read(*said.read, said.tokens)))
        return
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(small), said.tokens, layers=1, hidden=64, words=300)
        make_checkpoint(Path(folder), said.tokens, said.layers, said.hidden, WORDS)
        command = [sys.executable, __file__, "--read", small, folder, "--tokens", str(said.tokens)]
        found = json.loads(subprocess.check_output(command))
    print(f"| a prompt of {said.tokens:,} tokens | | target |\n|---|---|---|")
    print(f"| planned: weights, cache and work, MB | {found['planned'] / 1e6:.0f} | |")
    share = found["peak"] / found["planned"]
    print(f"| most that was taken, MB | {found['peak'] / 1e6:.0f} | {share:.2f} of the plan; at most 1 |")
    print(f"| until the first token, s | {found['seconds']:.0f} | {found['signs']} signs of progress |")
    print(f"| longest silence, s | {found['silence']:.2f} | |")
    print(f"| longest time until it was given up at 90 %, s | {found['given up']:.2f} | below 0.2 |")


if __name__ == "__main__":
    main()
