"""Models shared by two processes of torchrun, compared with the whole ones; rank 0 prints what it found as JSON.

Usage: sliced.py LLAMA QWEN UNPLANNED UNEVEN, folders of checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import chatcli.runtime  # noqa: F401  before torch
from chatcli.errors import ChatcliError
from chatcli.generation import DEFAULTS, GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.weights import weights
from chatcli.runtime.load import load_model
from chatcli.runtime.model import CausalModel, load
from chatcli.runtime.tensor_parallel import follow, leader

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
WHOLE = LoadPlan("float32", "cpu", "single", 0, 0)
SLICED = LoadPlan("float32", "cpu", "tensor", 0, 0)


def opened(folder: str, plan: LoadPlan) -> CausalModel:
    checkpoint = open_checkpoint(Path(folder))
    return CausalModel(load_model(checkpoint, weights(checkpoint), plan, lambda progress: None))


def said(model: CausalModel, turns: int = 3) -> list[list[int]]:
    """Turns that share less and less of what is cached; the last one is broken off."""
    answers = []
    for turn in range(turns):
        tokens = model.generate([*range(5, 30 - 4 * turn), 50 + turn], GREEDY, end=(), limit=8)
        answer = [token for token in tokens if isinstance(token, int)]
        answers.append(answer)
    broken = model.generate(list(range(9, 20)), GREEDY, end=(), limit=8)
    answers.append([token for token, _ in zip((t for t in broken if isinstance(t, int)), range(3), strict=False)])
    broken.close()
    return answers


def together(model: CausalModel) -> list[tuple[int, int | None]]:
    return list(model.generate_batch([[5, 6, 7]], [GREEDY], end=[()], limits=[5], stopped=(), constraints=[None]))


def in_turns(model: CausalModel) -> list[list[int]]:
    """Two talks by turns, a batch between them; each goes on from its own beginning."""
    talks = [[*range(5, 60), number] for number in (70, 80)]
    for _ in range(2):
        for talk in talks:
            talk += [each for each in model.generate(talk, GREEDY, end=(), limit=4) if isinstance(each, int)]
        together(model)
    return talks


def refused(folder: str) -> str:
    try:
        opened(folder, SLICED)
    except ChatcliError as error:
        return str(error)
    return ""


def main(llama: str, qwen: str, unplanned: str, uneven: str) -> None:
    first, second = opened(llama, SLICED), opened(qwen, SLICED)
    local = sum(weight.to_local().numel() for weight in first._model.parameters() if hasattr(weight, "to_local"))
    found = {
        "shared": local,
        "llama": said(first),
        "refused": [refused(unplanned), refused(uneven)],
        "qwen": said(second),
        "llama again": said(first),
        "together": together(first),
        "in turns": in_turns(first),
    }
    first.close()
    found["qwen again"] = said(second)
    checkpoint = open_checkpoint(Path(llama))
    found["by itself"] = load(checkpoint, weights(checkpoint), lambda progress: None)._model._tp_size
    whole, other = opened(llama, WHOLE), opened(qwen, WHOLE)
    expected = {"llama": said(whole), "qwen": said(other), "together": together(whole)}
    expected["in turns"] = in_turns(whole)
    print(json.dumps({"found": found, "expected": expected}))
    leader.dismiss()


if __name__ == "__main__":
    if os.environ["RANK"] == "0":
        main(*sys.argv[1:])
        code = 0
    else:
        code = follow()
    sys.stdout.flush()
    os._exit(code)
