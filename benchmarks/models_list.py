"""The time of `chatcli models` over a cache of many repositories, as a multiple of `python -c "import typer"`.

python benchmarks/models_list.py [--models 500] [--rounds 11]
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
from pathlib import Path

COMMANDS = {
    "import typer": ["-c", "import typer"],
    "no model": ["-m", "chatcli", "models"],
    "all models": ["-m", "chatcli", "models"],
}


def fill(cache: Path, number: int) -> None:
    """Make a cache as huggingface_hub does, of chat models with one small tensor each."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    files = {
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"chat_template": "{{ messages[0].content }}"}',
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(16),
    }
    for n in range(number):
        repository, commit = cache / f"models--org{n % 40}--Qwen3-{n}B-Instruct", f"{n:040x}"
        snapshot = repository / "snapshots" / commit
        for folder in (snapshot, repository / "blobs", repository / "refs"):
            folder.mkdir(parents=True)
        for name, content in {**files, "config.json": b'{"model_type": "qwen3"}'}.items():
            (repository / "blobs" / name).write_bytes(content)
            (snapshot / name).symlink_to(f"../../blobs/{name}")
        (repository / "refs" / "main").write_text(commit)


def main() -> None:
    """Every command in turn, the medians and their ratio; the first call, which looks into every model, beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=11)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root / "full" / "hub", said.models)
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(said.rounds + 1):
            for name, command in COMMANDS.items():
                place = root / ("full" if name == "all models" else "empty")
                own = {"HF_HOME": str(place), "CHATCLI_HOME": str(place / "home"), "MODELSCOPE_CACHE": str(place)}
                begun = time.perf_counter()
                subprocess.run([sys.executable, *command], env={**os.environ, **own}, capture_output=True, check=True)
                seconds[name].append(time.perf_counter() - begun)
    usual = statistics.median(seconds["import typer"][1:])
    print("| command | median, ms | times `import typer` |\n|---|---|---|")
    for name, measured in seconds.items():
        median = statistics.median(measured[1:])
        print(f"| {name} | {median * 1000:.0f} | {median / usual:.2f} |")
    print(f"| all models, the first time | {seconds['all models'][0] * 1000:.0f} | |")


if __name__ == "__main__":
    main()
