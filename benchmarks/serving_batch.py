"""What many streams at once cost: throughput, fairness, and a short question beside a long prompt.

python benchmarks/serving_batch.py [--layers 12] [--rounds 3] [--tokens 64] [--threads N] [--dtype float32]
    [--temperature 1]

A random Llama of the 160M shape, asked as the server asks it: each stream in a thread of its own. The streams of a
round have prompts of 20 to 80 tokens and equal answers; all ways take turns in one run. "alone" is the engine without a
batch, as `chatcli run` has it. Answers are drawn: with temperature 0 random weights fall into loops, which prompt
lookup guesses where a stream is alone, and which no text of a real model has.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import chatcli.runtime  # noqa: F401  before torch: how its threads wait
from chatcli import guide
from chatcli.adapters.table import shipped
from chatcli.engines.concurrent import ConcurrentEngine
from chatcli.engines.local import LocalEngine, open_local
from chatcli.generation import Event, Finished, GenerationSettings, Progress
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import open_checkpoint

GREEDY = GenerationSettings(temperature=0.0)
STREAMS = (1, 4, 16)
LONG, SHORT = 4000, 12
WAIT_SECONDS = 1.0
"""After which the short question comes, and somebody leaves."""


def checkpoint(folder: Path, layers: int) -> None:
    """A random Llama with the tokenizer of the built-in model, whose text nobody reads."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=32000,
        max_position_embeddings=8192,
        eos_token_id=31999,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((guide.folder() / name).read_bytes())
    # No token ends an answer early: all answers are of equal length.
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": 31999}))


def prompt(words: random.Random, length: int) -> list[int]:
    """Ids that no other prompt shares."""
    return [words.randrange(300, 1000) for _ in range(length)]


def to_the_end(events: Generator[Event]) -> tuple[float, int]:
    """Seconds to the first token, and how many there were."""
    last = Finished("error")
    with closing(events):
        for event in events:
            last = event if isinstance(event, Finished) else last
    return last.seconds_to_first, last.completion_tokens


def rate(ask: Callable[[list[int]], Generator[Event]], prompts: list[list[int]]) -> tuple[float, float]:
    """Tokens of all streams together, a second and a second of the processor; their prompts are read in that time."""
    begun, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(len(prompts)) as threads:
        made = sum(count for _, count in threads.map(lambda each: to_the_end(ask(each)), prompts))
    return made / (time.perf_counter() - begun), made / (time.process_time() - used)


def throughput(
    engine: ConcurrentEngine, alone: LocalEngine, words: random.Random, rounds: int, settings: GenerationSettings
) -> None:
    """The table of rates."""
    rates: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        for streams in (0, *STREAMS):
            prompts = [prompt(words, words.randrange(20, 80)) for _ in range(streams or 1)]
            asked = alone if streams == 0 else engine
            found = rate(lambda ids, asked=asked: asked.complete(ids, settings), prompts)  # type: ignore[misc]
            if turn:  # the first one warms up
                rates.setdefault(f"{streams} at once" if streams else "alone", []).append(found)
    print("| streams | tokens a second | of one stream | the same by processor time |\n|---|---|---|---|")
    for name, each in rates.items():
        wall, processor = (
            statistics.median(mine[way] / one[way] for mine, one in zip(each, rates["1 at once"], strict=True))
            for way in (0, 1)
        )
        print(f"| {name} | {statistics.median(rate for rate, _ in each):.1f} | {wall:.2f} | {processor:.2f} |")
    print("\nTarget: 16 streams at least 5 times one. Processor time is what a machine that others use can tell.\n")


def fairness(engine: ConcurrentEngine, words: random.Random, rounds: int, tokens: int) -> None:
    """What each of 16 equal streams gets while all of them are answered, and when each begins."""
    settings = GenerationSettings(temperature=0.0, max_new_tokens=tokens)
    shares, firsts = [], []
    for _ in range(rounds):
        with ThreadPoolExecutor(16) as threads:
            prompts = [prompt(words, 40) for _ in range(16)]
            stamps = list(threads.map(lambda ids: token_times(engine.complete(ids, settings)), prompts))
        begun, ended = max(each[0] for each in stamps), min(each[-1] for each in stamps)
        made = [sum(begun <= stamp <= ended for stamp in each) for each in stamps]
        shares.append(min(made) / max(made))
        firsts.append(max(each[0] for each in stamps) - min(each[0] for each in stamps))
    print(f"Fairness: of 16 equal streams the slowest gets {statistics.median(shares):.2f} of what the fastest gets;")
    print(f"the last begins {statistics.median(firsts):.2f} s after the first.\n")


def token_times(events: Generator[Event]) -> list[float]:
    """When each token came."""
    with closing(events):
        return [time.perf_counter() for each in events if isinstance(each, Progress) and each.stage == "writing"]


def beside_a_long_prompt(engine: ConcurrentEngine, words: random.Random, rounds: int) -> None:
    """The first token of a short question that comes while 4,000 tokens are read, against alone."""
    settings = GenerationSettings(temperature=0.0, max_new_tokens=2)
    alone, beside, long, left = [], [], [], []
    for _ in range(rounds):
        alone.append(to_the_end(engine.complete(prompt(words, SHORT), settings))[0])
        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(to_the_end, engine.complete(prompt(words, LONG), settings))
            time.sleep(WAIT_SECONDS)
            beside.append(to_the_end(engine.complete(prompt(words, SHORT), settings))[0])
            assert not reading.done()
            long.append(reading.result()[0])
        left.append(leaving(engine, words))
    print("| a short question | s to its first token |\n|---|---|")
    print(f"| alone | {statistics.median(alone):.3f} |")
    print(f"| while {LONG} tokens are read | {statistics.median(beside):.3f} |")
    print(f"| those {LONG} tokens | {statistics.median(long):.3f} |\n")
    print(
        f"A client that leaves in the middle of them frees its place in {statistics.median(left):.3f} s (target: 0.2)."
    )


def leaving(engine: ConcurrentEngine, words: random.Random) -> float:
    """Seconds from the moment that a client leaves to that in which nothing runs."""
    events = engine.complete(prompt(words, LONG), GREEDY)
    begun = time.perf_counter()
    for _ in events:
        if time.perf_counter() - begun > WAIT_SECONDS:
            break
    begun = time.perf_counter()
    events.close()
    while engine.running or engine.waiting:
        time.sleep(0.001)
    return time.perf_counter() - begun


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    said = parser.parse_args()
    if said.threads:
        torch.set_num_threads(said.threads)
    words = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        checkpoint(Path(name), said.layers)
        request = LoadRequest(dtype=said.dtype, compile=None)  # as the server opens it
        alone = open_local(open_checkpoint(Path(name)), shipped(), lambda progress: None, request)
    with closing(ConcurrentEngine(alone.another_talk())) as engine:
        drawn = GenerationSettings(temperature=said.temperature, top_p=1.0, top_k=0, max_new_tokens=said.tokens)
        throughput(engine, alone, words, said.rounds, drawn)
        fairness(engine, words, said.rounds, said.tokens)
        beside_a_long_prompt(engine, words, said.rounds)


if __name__ == "__main__":
    main()
