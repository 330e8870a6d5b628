"""Decoding on a CPU: ours, `generate()` with a streamer, and llama.cpp, on the same random 160M Llama.

pip install xllamacpp gguf
python benchmarks/decode_cpu.py [--rounds 7] [--prompt 64] [--tokens 64] [--only bf16]

llama.cpp runs in a process of its own and gets its default way of waiting for threads. Ours is measured without and
with the step that `--compile` builds, which is built before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chatcli.runtime  # noqa: F401  before torch: how its threads wait

SHAPE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
FORMATS = {"bf16": "none", "q8_0": "int8", "q4_0": "int4"}
"""llama.cpp's name of a format, and what ours is asked for to compare with it."""


@dataclass
class Way:
    """One side: what it is, and a call that measures it once: tokens a second of the prompt and of the answer."""

    name: str
    bits: str
    once: Callable[[], tuple[float, float]]


def write_model(folder: Path) -> None:
    """A checkpoint with random weights in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).bfloat16().save_pretrained(folder)


def words() -> list[str]:
    """A vocabulary for llama.cpp: GPT-2's 256 bytes, and names."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [chr(256 + n) for n in range(256 - len(printable))]
    known = [chr(each) for each in printable] + others
    return known + [f"w{n}" for n in range(SHAPE["vocab_size"] - len(known))]


def write_gguf(folder: Path, form: str) -> Path:
    """The same weights as llama.cpp reads them, `form` for all matrices."""
    import gguf
    import numpy as np
    from safetensors.torch import load_file

    path = folder / f"{form}.gguf"
    heads, width = SHAPE["num_attention_heads"], SHAPE["hidden_size"]
    kind = gguf.GGMLQuantizationType[form.upper()]
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(SHAPE["max_position_embeddings"])
    out.add_embedding_length(width)
    out.add_block_count(SHAPE["num_hidden_layers"])
    out.add_feed_forward_length(SHAPE["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(heads)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_dimension_count(width // heads)
    out.add_rope_freq_base(10000.0)
    out.add_file_type(gguf.LlamaFileType[f"MOSTLY_{form.upper()}"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    out.add_token_list(words())
    out.add_token_types([1] * SHAPE["vocab_size"])
    out.add_token_merges(["a b", "c d"])
    out.add_eos_token_id(2)
    tensors = load_file(folder / "model.safetensors")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, SHAPE["num_hidden_layers"])
    for name, tensor in tensors.items():
        array = tensor.float().numpy()
        if ".q_proj" in name or ".k_proj" in name:  # its rotary pairs are neighbours, not halves
            array = array.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(array.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        if array.ndim == 1:
            out.add_tensor(target, array)
        else:
            out.add_tensor(target, gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def serve_llama(path: str, threads: int, prompt: int, tokens: int) -> None:
    """The other process: for each line on standard input, one measurement on standard output."""
    import xllamacpp

    told = os.dup(1)
    os.dup2(2, 1)  # what the library prints is not ours
    params: Any = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 2048, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    asked = {"n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": False}
    for _ in sys.stdin:
        answer = server.handle_completions({"prompt": list(range(100, 100 + prompt)), **asked})
        timings = (answer if isinstance(answer, dict) else json.loads(answer))["timings"]
        os.write(told, json.dumps([timings["prompt_per_second"], timings["predicted_per_second"]]).encode() + b"\n")


def llama(path: Path, threads: int, said: argparse.Namespace) -> Callable[[], tuple[float, float]]:
    """A measurement of llama.cpp, its process waiting between two."""
    command = [sys.executable, __file__, "--serve", str(path), "--threads", str(threads)]
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    process = subprocess.Popen(
        [*command, "--prompt", str(said.prompt), "--tokens", str(said.tokens)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=variables,
    )

    def once() -> tuple[float, float]:
        assert process.stdin
        assert process.stdout
        process.stdin.write("go\n")
        process.stdin.flush()
        prefill, decode = json.loads(process.stdout.readline())
        return prefill, decode

    return once


def build() -> None:
    """Have the compiled step on the disk, so that no round waits for it."""
    from chatcli.runtime.native.build import library

    built = library(os.environ)
    while not built.loaded():
        time.sleep(0.1)


def ways(folder: Path, threads: int, said: argparse.Namespace) -> list[Way]:
    """All sides there are here, those of a format beside each other."""
    from transformers import AutoModelForCausalLM

    from chatcli.load_request import LoadRequest
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.weights import weights
    from chatcli.runtime.bench import ours_once, plain_once
    from chatcli.runtime.model import CausalModel, load

    ids = list(range(100, 100 + said.prompt))
    checkpoint = open_checkpoint(folder, "bench/llama-160m")
    module = AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16").eval()

    def generate() -> tuple[float, float]:
        speed = plain_once(module, ids, said.tokens)
        assert speed
        return speed.prefill, speed.decode

    def ours(model: CausalModel) -> Callable[[], tuple[float, float]]:
        def once() -> tuple[float, float]:
            speed = ours_once(model, ids, said.tokens)
            return speed.prefill, speed.decode

        return once

    found = [Way("generate() with a streamer, bfloat16", "bf16", generate)]
    for form, quantization in FORMATS.items():
        if said.only not in ("", form):
            continue
        for compiled in (False, True):
            request = LoadRequest(dtype="bfloat16", quantization=quantization, compile=compiled)
            model = load(checkpoint, weights(checkpoint), lambda progress: print(progress.note, end=""), request)
            name = f"chatcli, {model.precision}{'' if compiled else ', --no-compile'}"
            found.append(Way(name, form, ours(model)))
        found.append(Way(f"llama.cpp, {form}", form, llama(write_gguf(folder, form), threads, said)))
    return found


def main() -> None:
    """All ways in turn; medians, and medians of each round's ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=("", *FORMATS), default="")
    parser.add_argument("--serve", default="")
    said = parser.parse_args()
    if said.serve:
        serve_llama(said.serve, said.threads, said.prompt, said.tokens)
        return
    import torch

    from chatcli.runtime.bench import bandwidth

    torch.set_num_threads(said.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        build()
        sides = ways(folder, said.threads, said)
        rounds: list[list[tuple[float, float]]] = []
        rates = []
        for number in range(said.rounds + 1):
            measured = [side.once() for side in sides]
            if number:  # the first warms up
                rounds.append(measured)
                rates.append(bandwidth(torch.nn.Linear(1, 1, device="cpu").requires_grad_(False).weight))
    print(f"{said.threads} threads, memory {statistics.median(rates) / 1e9:.1f} GB/s, load {os.getloadavg()[0]:.1f}\n")
    print("| way | answer, tokens/s | times generate() | times llama.cpp of that format | prompt, tokens/s |")
    print("|---|---|---|---|---|")
    for at, side in enumerate(sides):
        beside = next((n for n, each in enumerate(sides) if each.name == f"llama.cpp, {side.bits}"), at)
        decode, prefill = (statistics.median(r[at][which] for r in rounds) for which in (1, 0))
        to_plain, to_llama = (statistics.median(r[at][1] / r[n][1] for r in rounds) for n in (0, beside))
        print(f"| {side.name} | {decode:.1f} | {to_plain:.2f} | {to_llama:.2f} | {prefill:.0f} |")


if __name__ == "__main__":
    main()
