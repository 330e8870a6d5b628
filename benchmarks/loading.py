"""Loading a checkpoint of 1 GB against reading its files with safetensors alone; what reading ahead brings to `ask`.

python benchmarks/loading.py [--folder FOLDER] [--rounds 5] [--device cpu]

A weight counts as loaded when it is on the device, for a CPU when a byte of each of its pages was read. Cold means that
the kernel was asked to forget the files; a virtual machine's host may remember them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from chatcli import guide
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.read_ahead import read_ahead
from chatcli.models.weights import weights
from chatcli.runtime import loading

ASK = "import chatcli.engines.local as local; {switch}; from chatcli.cli.main import run_program; run_program()"
READING = {"without": "local.read_ahead = lambda files: None", "with": "None"}


def make_checkpoint(folder: Path, largest_file: str) -> None:
    """A Llama of 0.92 GB in bfloat16 with random weights, and the guide's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=1536,
        intermediate_size=4096,
        num_hidden_layers=14,
        num_attention_heads=16,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        empty = LlamaForCausalLM(config)
    model = empty.to(torch.bfloat16).to_empty(device="cpu")
    for weight in model.parameters():
        weight.data.normal_(0, 0.02)
    model.save_pretrained(folder, max_shard_size=largest_file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(guide.folder() / name, folder)


def forget(folder: Path) -> None:
    """Ask the kernel to drop the files' pages."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch(tensors: Iterable[object]) -> None:
    """Have every page of the weights in memory, or on the device."""
    import torch

    for tensor in tensors:
        assert isinstance(tensor, torch.Tensor)
        if tensor.device.type == "cpu":
            tensor.detach().view(-1).view(torch.uint8)[::4096].sum()
        elif tensor.device.type == "cuda":
            torch.cuda.synchronize(tensor.device)


def alone(folder: Path, device: str) -> Iterable[object]:
    """What safetensors itself does with the files, one after the other."""
    from safetensors.torch import load_file

    return [tensor for path in sorted(folder.glob("*.safetensors")) for tensor in load_file(path, device).values()]


def ours(folder: Path, device: str) -> Iterable[object]:
    """What chatcli does, from the names of the files on."""
    from chatcli.runtime.load import load_model

    checkpoint = open_checkpoint(folder)
    found = weights(checkpoint)
    read_ahead(found.files)
    with loading():
        model = load_model(
            checkpoint, found, LoadPlan("bfloat16", device, "single", found.bytes, 0), lambda progress: None
        )
    return list(model.parameters())


def built(folder: Path, device: str) -> Iterable[object]:
    """The part that no file's speed changes: the empty model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    return []


def seconds(work: Callable[[Path, str], Iterable[object]], folder: Path, device: str) -> float:
    """How long until all of it is there."""
    begun = time.perf_counter()
    touch(work(folder, device))
    return time.perf_counter() - begun


def compare_reading(folders: dict[str, Path], device: str, rounds: int) -> None:
    """The first table: each side in turn, in every round."""
    print("| files | pages | safetensors alone, s | chatcli, s | rate of chatcli | of that, building, s |")
    print("|---|---|---|---|---|---|")
    for name, folder in folders.items():
        for state in ("cold", "warm"):
            took: dict[Callable[..., object], list[float]] = {alone: [], ours: [], built: []}
            for number in range(rounds + 1):
                for work, times in took.items():
                    if state == "cold":
                        forget(folder)
                    spent = seconds(work, folder, device)  # type: ignore[arg-type]
                    if number:  # the first round imports what is used
                        times.append(spent)
            rate = statistics.median(a / b for a, b in zip(took[alone], took[ours], strict=True))
            middle = [statistics.median(times) for times in took.values()]
            print(
                f"| {name} | {state} | {middle[0]:.2f} | {middle[1]:.2f} | {rate:.2f} | {middle[2]:.2f} |", flush=True
            )


def compare_asking(folder: Path, rounds: int) -> None:
    """The second table: a whole `ask` of one token in a new process, files cold."""
    took: dict[str, list[float]] = {name: [] for name in READING}
    arguments = ["ask", "-m", str(folder), "--max-tokens", "1", "--json", "Hi"]
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds):
            for name, switch in READING.items():
                forget(folder)
                begun = time.perf_counter()
                ran = subprocess.run(
                    [sys.executable, "-c", ASK.format(switch=switch), *arguments],
                    env={**os.environ, "CHATCLI_HOME": home, "CHATCLI_KEEP_ALIVE": "0"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=True,
                )
                took[name].append(time.perf_counter() - begun)
                json.loads(ran.stdout)
    print("\n| cold `ask` of one token | s |\n|---|---|")
    for name, times in took.items():
        print(f"| {name} reading ahead | {statistics.median(times):.2f} |")
    gain = statistics.median(a - b for a, b in zip(took["without"], took["with"], strict=True))
    print(f"\nReading ahead saves {gain:.2f} s (median of pairs).")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to keep the checkpoints; default: a temporary folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = said.folder or Path(temporary)
        folders = {"one file": root / "one", "five files": root / "five"}
        for folder, largest in zip(folders.values(), ("5GB", "200MB"), strict=True):
            if not (folder / "config.json").is_file():
                make_checkpoint(folder, largest)
        compare_reading(folders, said.device, said.rounds)
        if said.device == "cpu":
            compare_asking(folders["one file"], said.rounds)


if __name__ == "__main__":
    main()
