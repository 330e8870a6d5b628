"""Write a checkpoint of some hundred megabytes, and measure what a process takes that talks with it.

Run as a program it prints JSON, from a process that is fresh: `python measured.py FOLDER DEVICE TOKENS...`
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "float32"},
    **{"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16},
    **{"num_key_value_heads": 4, "vocab_size": 4000, "max_position_embeddings": 8192, "tie_word_embeddings": False},
}


def write(folder: Path, layers: int = 8) -> None:
    """A random Llama in float32: 46 MB for each layer, and 33 MB."""
    import numpy
    from safetensors.numpy import save_file

    hidden, inner, keys = CONFIG["hidden_size"], CONFIG["intermediate_size"], 4 * 64
    tables, random = (CONFIG["vocab_size"], hidden), numpy.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": tables, "lm_head.weight": tables, "model.norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, out in (("q", hidden), ("k", keys), ("v", keys), ("o", hidden)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (out, hidden)
        for name, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
            shapes[f"{at}.mlp.{name}_proj.weight"] = shape
        shapes |= {f"{at}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: random.standard_normal(s, dtype="float32") * numpy.float32(0.02) for n, s in shapes.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))


def measure(folder: Path, device: str, *lengths: int) -> list[dict[str, int]]:
    """What talks of so many tokens take in a fresh process beyond what it had before it loaded the model."""
    command = [sys.executable, __file__, str(folder), device, *map(str, lengths)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, int]] = json.loads(ran.stdout)
    return found


def _measured(folder: Path, device: str, lengths: list[int]) -> list[dict[str, int]]:
    import psutil
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401  what it takes is not the model's

    from chatcli.generation import DEFAULTS, GenerationSettings
    from chatcli.load_request import LoadRequest
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.plan import plan
    from chatcli.models.weights import weights
    from chatcli.runtime.decode import MOST_CHUNK, Pace
    from chatcli.runtime.devices import devices
    from chatcli.runtime.model import load

    checkpoint = open_checkpoint(folder)
    stored = weights(checkpoint)
    machine = devices()
    before = psutil.Process().memory_info().rss
    model = load(checkpoint, stored, lambda progress: None, LoadRequest(device=device, context=max(lengths)))
    model.pace = Pace(seconds=60.0, least=MOST_CHUNK)  # what the plan counts, however busy the machine is
    greedy = GenerationSettings(temperature=0.0).over(DEFAULTS)
    found = []
    for tokens in sorted(lengths):  # the peak only grows
        prompt = [7 * i % CONFIG["vocab_size"] for i in range(tokens - 8)]
        assert len([each for each in model.generate(prompt, greedy, end=(), limit=8) if isinstance(each, int)]) == 8
        estimated = plan(checkpoint.config, stored.tensors, machine, LoadRequest(device=device, context=tokens))
        taken = torch.cuda.max_memory_allocated() if device == "cuda" else _peak() - before
        found.append({"estimated": estimated.peak_bytes, "taken": taken, "weights": estimated.weights_bytes})
    return found


def _peak() -> int:
    """The most resident memory that this process has had, in bytes.

    What `getrusage` says of it on Linux begins with the peak of the process that started this one.
    """
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(_measured(Path(sys.argv[1]), sys.argv[2], list(map(int, sys.argv[3:])))))
