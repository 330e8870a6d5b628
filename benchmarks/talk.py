"""What a long talk, a long prompt and text that repeats cost.

python benchmarks/talk.py [--shape 160M] [--turns 20] [--rounds 3] [--only turns]

A random Llama in float32, of 160M parameters or in the shape of Llama 3.2 1B. Turns: 20 of equal length, the time to
the first token with the cache and without. A long prompt: in chunks, as it is read, and in one pass. An edit: the
answer is a text of the prompt with a word changed in every 40; its tokens are given, for random weights edit nothing,
and cost what any others do.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import chatcli.runtime  # noqa: F401  before torch: how its threads wait
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.runtime.cpu import fastest_row
from chatcli.runtime.decode import Pace, decode, feed, prefill
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.native.build import library
from chatcli.runtime.native.passes import NativePasses, native_passes
from chatcli.runtime.sampling import Sampler
from chatcli.runtime.speculate import PromptLookup

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
QUESTION, ANSWER = 150, 8
SHAPES = {
    "160M": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


class Given(Sampler):
    """Draws what it was given; looks at the logits as any sampler does."""

    def __init__(self, tokens: Sequence[int], device: torch.device) -> None:
        super().__init__(GREEDY, device)
        self._tokens = iter(tokens)

    def draw(self, logits: torch.Tensor, seen: Sequence[int]) -> int:
        """The next of them."""
        super().draw(logits, seen)
        return next(self._tokens)


def to_first(model: CausalModel, ids: Sequence[int]) -> tuple[float, list[int]]:
    """Seconds to the first token of an answer, and the answer."""
    begun, first, made = time.perf_counter(), 0.0, []
    for item in model.generate(ids, GREEDY, end=(), limit=ANSWER):
        if isinstance(item, int):
            first = first or time.perf_counter() - begun
            made.append(item)
    return first, made


def opened(model: Any, native: NativePasses) -> CausalModel:
    """The model with nothing read, which computes as `chatcli run` has it."""
    talking = CausalModel(model)
    talking.one_row, talking.some_rows = native.one_row(talking.one_row), native.some_rows
    return talking


def turns(model: Any, native: NativePasses, words: random.Random, last: int) -> None:
    """So many turns of a talk."""
    talking, ids, kept, fresh = opened(model, native), list[int](), {}, {}
    for turn in range(1, last + 1):
        ids += [words.randrange(3, 32000) for _ in range(QUESTION)]
        kept[turn], made = to_first(talking, ids)
        if turn in (2, last):
            fresh[turn], _ = to_first(opened(model, native), ids)
        ids += made + [words.randrange(3, 32000) for _ in range(50 - ANSWER)]
    print("| turn | tokens before | with the cache, s | read anew, s |\n|---|---|---|---|")
    for turn in (2, last):
        print(f"| {turn} | {(turn - 1) * (QUESTION + 50)} | {kept[turn]:.3f} | {fresh[turn]:.3f} |")
    print(f"| {last} to 2 | | {kept[last] / kept[2]:.2f} (target: at most 1.3) | {fresh[last] / fresh[2]:.2f} |\n")


def long_prompt(model: Any, native: NativePasses, words: random.Random, rounds: int) -> None:
    """A prompt of 2,048 tokens."""
    ids = [words.randrange(3, 32000) for _ in range(2048)]
    ratios, longest, pace = [], [], Pace()
    for turn in range(rounds + 1):
        begun = time.perf_counter()
        with torch.inference_mode():
            feed(model, PrefixCache(model.config), ids)
        whole = time.perf_counter() - begun
        stamps = [time.perf_counter()]
        for _ in prefill(model, PrefixCache(model.config), ids, pace, native.some_rows):
            stamps.append(time.perf_counter())
        stamps.append(time.perf_counter())
        if turn:
            ratios.append(whole / (stamps[-1] - stamps[0]))
            longest.append(max(b - a for a, b in pairwise(stamps)))
    print("| a prompt of 2,048 tokens | | target |\n|---|---|---|")
    print(f"| rate in chunks, of that in one pass | {statistics.median(ratios):.2f} | at least 0.95 |")
    print(f"| longest time until it can be given up, s | {statistics.median(longest):.3f} | below 0.2 |")
    print(f"| tokens of a chunk at last | {pace.chunk} | |\n")


def edit(model: Any, native: NativePasses, words: random.Random, rounds: int) -> None:
    """An answer that repeats the prompt."""
    text = [words.randrange(3, 32000) for _ in range(320)]
    answer = [each if place % 40 else words.randrange(3, 32000) for place, each in enumerate(text)]
    row, rates = native.one_row(fastest_row(model)), {"plain": [], "guessing": []}  # type: ignore[var-annotated]
    for turn in range(rounds + 1):
        for name, guesser in (("plain", None), ("guessing", PromptLookup())):
            cache = PrefixCache(model.config)
            logits = feed(model, cache, text)[0]
            begun = time.perf_counter()
            steps = decode(
                model,
                cache,
                text,
                logits,
                Given(answer, logits.device),
                end=(),
                limit=len(answer),
                one_row=row,
                some_rows=native.some_rows,
                guesser=guesser,
            )
            assert list(steps) == answer
            if turn:
                rates[name].append(len(answer) / (time.perf_counter() - begun))
    plain, guessing = (statistics.median(each) for each in rates.values())
    print("| an edit of 320 tokens | tokens/s | times plain | target |\n|---|---|---|---|")
    print(f"| plain | {plain:.1f} | 1.00 | |\n| guessing | {guessing:.1f} | {guessing / plain:.2f} | at least 1.8 |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="160M")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["turns"])
    said = parser.parse_args()
    torch.manual_seed(0)
    shape = LlamaConfig(**SHAPES[said.shape], vocab_size=32000, max_position_embeddings=8192)
    model, words = LlamaForCausalLM(shape).eval(), random.Random(0)
    built = library(os.environ)
    while not built.loaded():
        time.sleep(0.1)
    native = native_passes(model, os.environ)
    turns(model, native, words, said.turns)
    if said.only:
        return
    long_prompt(model, native, words, said.rounds)
    edit(model, native, words, said.rounds)


if __name__ == "__main__":
    main()
