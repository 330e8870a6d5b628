"""How a text's vector is made of a model's hidden states, as the files beside the model say.

sentence-transformers lists in modules.json what runs behind the model, each with a folder of its own
(https://sbert.net/docs/package_reference/sentence_transformer/models.html); a GGUF file has `pooling_type`. It reads
small files; it knows no tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from chatcli.errors import BrokenCheckpoint, ModelError
from chatcli.models.checkpoint import Checkpoint, context_length, read_json

Pooling = Literal["mean", "weighted mean", "max", "first", "last"]

_KEYS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",  # another length, the same direction
    "pooling_mode_weightedmean_tokens": "weighted mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
_WORDS: Mapping[str, Pooling] = {
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean",
    "weightedmean": "weighted mean",
    "max": "max",
    "cls": "first",
    "lasttoken": "last",
}
"""The same in files that have one field `pooling_mode`."""
_GGUF: Mapping[int, Pooling] = {1: "mean", 2: "first", 3: "last"}
"""llama.cpp's numbers (`llama_pooling_type`)."""
_COUNTS_FROM_PADDING = frozenset({"camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})
"""Families whose first position is the one behind the padding's id, so that they read as many tokens less."""


def pooling(checkpoint: Checkpoint) -> Pooling:
    """Which hidden states become the vector; the mean of all, where nothing says it.

    Raises:
        BrokenCheckpoint: a file is damaged, or missing though it is listed.
        ModelError: the vector is made in a way that is not known here.
    """
    if checkpoint.gguf:
        return _GGUF.get(checkpoint.gguf.of_family("pooling_type") or 0, "mean")
    found: Pooling = "mean"
    for path, kind in _modules(checkpoint.folder):
        if kind == "Pooling":
            found = _mode(checkpoint, path)
        elif kind not in ("Transformer", "Normalize"):
            raise ModelError(
                f"{checkpoint.name} has a layer behind its model ({kind}), which is not computed here: "
                "choose another model for vectors, such as Qwen/Qwen3-Embedding-0.6B."
            )
    return found


def longest(checkpoint: Checkpoint) -> int:
    """Tokens of the longest text that a model for vectors was made for; 0 where nothing says it."""
    said = checkpoint.folder / "sentence_bert_config.json"
    chosen = read_json(said).get("max_seq_length") if said.is_file() else None
    trained = context_length(checkpoint.config)
    if trained and checkpoint.model_type in _COUNTS_FROM_PADDING:
        trained -= int(checkpoint.config.get("pad_token_id") or 0) + 1
    return min(filter(None, (chosen if type(chosen) is int and chosen > 0 else 0, trained)), default=0)


def _modules(folder: Path) -> list[tuple[Path, str]]:
    """What modules.json lists, in this order: a folder and the class's name without its package."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        listed = json.loads(path.read_text(encoding="utf-8-sig"))
        return [(folder / Path(str(each["path"])).name, str(each["type"]).rpartition(".")[2]) for each in listed]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenCheckpoint(f"{path} is no list of modules: download the model again.") from error


def _mode(checkpoint: Checkpoint, folder: Path) -> Pooling:
    said: dict[str, Any] = read_json(folder / "config.json")
    modes = [_KEYS[key] for key, value in said.items() if key in _KEYS and value is True]
    if str(said.get("pooling_mode")) in _WORDS:
        modes.append(_WORDS[str(said["pooling_mode"])])
    if len(modes) != 1:
        raise ModelError(
            f"{checkpoint.name} makes its vectors in {len(modes)} known ways, and here it is one "
            f"({', '.join(dict.fromkeys(_WORDS.values()))}): choose another model for vectors."
        )
    return modes[0]
