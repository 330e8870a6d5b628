"""Serving one checkpoint: chatcli, FastChat's worker and API server, `transformers serve`, one after the other.

pip install "chatcli[serve]" openai "transformers[serving]"
python -m venv old && old/bin/pip install "fschat[model_worker]" "transformers<4.47" "pydantic<2" "fastapi<0.112"
python benchmarks/serving.py [--fschat old/bin/python] [--rounds 2] [--tokens 48] [--only chatcli]

FastChat wants older packages, so it has an environment of its own. The checkpoint is a random Llama of 43
million parameters in float32, whose answers never end by themselves: all sides make the same number of tokens. For each
number of streams so many clients ask at once, each a prompt of its own, and read their answers as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import openai
import psutil

NAME = "vicuna-bench"
"""FastChat chooses the prompt's format by the folder's name."""
STREAMS = (1, 4, 16)
START_SECONDS = 240


@dataclass(frozen=True)
class Side:
    """One server: its processes' commands, by the port that the API is to have, and what the model is called there."""

    name: str
    commands: Callable[[Path, int], list[list[str]]]
    model: Callable[[Path], str]


@dataclass
class Measured:
    """What came of one side."""

    start: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    rates: dict[int, list[float]] = field(default_factory=lambda: {streams: [] for streams in STREAMS})
    firsts: dict[int, list[float]] = field(default_factory=lambda: {streams: [] for streams in STREAMS})


def make_checkpoint(folder: Path) -> None:
    """A Llama whose answers are letters and never end."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Hello there, how are you today?"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    fast.save_pretrained(folder)
    said = folder / "tokenizer_config.json"
    said.write_text(said.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))  # as older ones call it
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, tie_word_embeddings=True, **sizes))
    letters = [tokenizer.token_to_id(each) for each in "abcdefghijklmnopqrstuvwxyz"]
    with torch.no_grad():
        model.get_input_embeddings().weight[letters] *= 50  # the likeliest tokens are among the longest rows
    model.save_pretrained(folder)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chatcli(folder: Path, port: int) -> list[list[str]]:
    """Ours."""
    return [[str(Path(sys.executable).with_name("chatcli")), "serve", str(folder), "--port", str(port)]]


def transformers_serve(*flags: str) -> Callable[[Path, int], list[list[str]]]:
    """What transformers brings."""
    program = str(Path(sys.executable).with_name("transformers"))
    return lambda folder, port: [[program, "serve", str(folder), "--port", str(port), "--host", "127.0.0.1", *flags]]


def fastchat(python: str) -> Callable[[Path, int], list[list[str]]]:
    """Controller, worker and API server."""

    def commands(folder: Path, port: int) -> list[list[str]]:
        control, worker = free_port(), free_port()
        here = ["--host", "127.0.0.1", "--port"]
        controller = ["--controller-address", f"http://127.0.0.1:{control}"]
        work = ["--model-path", str(folder), "--device", "cpu", "--worker-address", f"http://127.0.0.1:{worker}"]
        serve = [python, "-m"]
        return [
            [*serve, "fastchat.serve.controller", *here, str(control)],
            [*serve, "fastchat.serve.model_worker", *here, str(worker), *controller, *work],
            [*serve, "fastchat.serve.openai_api_server", *here, str(port), *controller],
        ]

    return commands


@contextmanager
def running(side: Side, folder: Path, measured: Measured) -> Iterator[openai.AsyncOpenAI]:
    """The server until the block ends, from when it has answered once; notes how long that took."""
    port, processes = free_port(), []
    begun = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CHATCLI_KEEP_ALIVE": "0"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as place:  # FastChat writes its logs where it stands
        for command in side.commands(folder, port):
            processes.append(subprocess.Popen(command, env=environment, cwd=place, **quiet))  # type: ignore[call-overload]
        try:
            wait_for_an_answer(f"http://127.0.0.1:{port}/v1", side.model(folder), processes)
            measured.start.append(time.perf_counter() - begun)
            yield openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=600)
            measured.memory.append(sum(proportional_bytes(process.pid) for process in processes))
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()


def wait_for_an_answer(address: str, model: str, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask until one token comes."""
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=60)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        with suppress(openai.APIError):
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1)
            return
        time.sleep(0.05)
    sys.exit("A server did not come up.")


def proportional_bytes(pid: int) -> int:
    """Main memory of a process and its children, what they share counted once."""
    process = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True)))


async def ask(client: openai.AsyncOpenAI, model: str, number: int, tokens: int) -> float:
    """One stream; seconds to its first text."""
    prompt = f"{number}: Hello there, how are you today? " * 4
    begun, first = time.perf_counter(), 0.0
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=tokens, temperature=0, stream=True
    )
    async for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - begun
    return first


async def measure(client: openai.AsyncOpenAI, model: str, tokens: int, measured: Measured) -> None:
    """All numbers of streams."""
    for streams in STREAMS:
        begun = time.perf_counter()
        firsts = await asyncio.gather(*(ask(client, model, number, tokens) for number in range(streams)))
        measured.rates[streams].append(streams * tokens / (time.perf_counter() - begun))
        measured.firsts[streams] += firsts


def show(sides: dict[str, Measured]) -> None:
    """The tables."""
    print("| server | start to first answer, s | memory, MB | tokens/s at " + " | at ".join(map(str, STREAMS)) + " |")
    print("|---|---|---|" + "---|" * len(STREAMS))
    for name, each in sides.items():
        rates = " | ".join(f"{statistics.median(each.rates[streams]):.0f}" for streams in STREAMS)
        memory = statistics.median(each.memory) / 1e6
        print(f"| {name} | {statistics.median(each.start):.1f} | {memory:.0f} | {rates} |")
    print("\n| first text, s: p50 / p99 | at " + " | at ".join(map(str, STREAMS)) + " |")
    print("|---|" + "---|" * len(STREAMS))
    for name, each in sides.items():
        cells = [
            f"{statistics.median(firsts):.2f} / {sorted(firsts)[int(0.99 * (len(firsts) - 1) + 0.5)]:.2f}"
            for firsts in each.firsts.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Each side in turn, several rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fschat", default="", help="the Python of an environment that has FastChat")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--only", default="", help="sides whose names hold this")
    said = parser.parse_args()
    sides = [
        Side("chatcli serve", chatcli, lambda folder: folder.name),
        Side("transformers serve", transformers_serve(), str),
        Side("transformers serve --continuous-batching", transformers_serve("--continuous-batching"), str),
    ]
    if said.fschat:
        sides.append(Side("FastChat", fastchat(said.fschat), lambda folder: folder.name))
    sides = [side for side in sides if said.only in side.name]
    measured = {side.name: Measured() for side in sides}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / NAME
        make_checkpoint(folder)
        for _ in range(said.rounds):
            for side in sides:
                with running(side, folder, measured[side.name]) as client:
                    asyncio.run(measure(client, side.model(folder), said.tokens, measured[side.name]))
    show(measured)


if __name__ == "__main__":
    main()
