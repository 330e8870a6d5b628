"""What a checkpoint's JSON files say of the end of a reply and of sampling.

A value that makes no sense counts as not said. This module knows no tokenizer and no row.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import Checkpoint, text_config


def declared_ends(checkpoint: Checkpoint, special: Collection[int]) -> frozenset[int]:
    """`eos_token_id` of generation_config.json, an id or a list of them, and of config.json.

    Where both speak, config.json's counts only if it is one of the `special` ids: many a fine-tune with a new
    vocabulary still says 2, which is an ordinary word there and would cut replies short.
    """
    generation = _ids(checkpoint.generation_config.get("eos_token_id"))
    config = _ids(checkpoint.config.get("eos_token_id")) or _ids(text_config(checkpoint.config).get("eos_token_id"))
    return generation | (config & frozenset(special)) if generation else config


def _ids(value: object) -> frozenset[int]:
    listed = value if isinstance(value, list) else [value]
    return frozenset(each for each in listed if isinstance(each, int) and not isinstance(each, bool))


def declared_sampling(checkpoint: Checkpoint) -> GenerationSettings:
    """What generation_config.json says of sampling; `do_sample: false` is a temperature of 0.

    vLLM's top_k of -1, "off", is one of the values that say nothing.
    """
    said = checkpoint.generation_config

    def number(key: str, low: float, high: float = math.inf) -> float | None:
        value = said.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value) if low <= value <= high else None

    top_k = number("top_k", 0)
    return GenerationSettings(
        temperature=0.0 if said.get("do_sample") is False else number("temperature", 0),
        top_p=number("top_p", 1e-6, 1),
        top_k=None if top_k is None else int(top_k),
        min_p=number("min_p", 0, 1),
        repetition_penalty=number("repetition_penalty", 1e-6),
    )
