"""A LoRA adapter's folder: what it is made for, and whether it is whole.

PEFT's files: adapter_config.json and adapter_model.safetensors or .bin. It reads no weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint, LoraFolder, read_json

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_TEXTS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt"),
)


def is_lora(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def is_whole(folder: Path) -> bool:
    """Whether an adapter's weights are there, too."""
    return is_lora(folder) and any((folder / name).is_file() for name in _WEIGHTS)


def base_of(folder: Path) -> str:
    """The model that an adapter is made for, as its config says; empty where it does not.

    Raises:
        BrokenCheckpoint: the config cannot be read.
    """
    said = read_json(folder / CONFIG).get("base_model_name_or_path")
    return said.strip() if isinstance(said, str) else ""


def required_base(folder: Path, name: str) -> str:
    """The same, where nothing goes without.

    Raises:
        BrokenCheckpoint: no base model is named.
    """
    base = base_of(folder)
    if base and base != name and Path(base) != folder:
        return base
    raise BrokenCheckpoint(
        f"{name} is an adapter that does not say what model it is for: name the model, and the adapter with --lora."
    )


def needed(files: Iterable[str]) -> list[str]:
    """Of a repository's files those of the adapter: safetensors before .bin, and the tokenizer's beside them."""
    there = set(files)
    weights = next((name for name in _WEIGHTS if name in there), None)
    return sorted({CONFIG, *_TEXTS} & there) + ([weights] if weights else [])


def with_lora(checkpoint: Checkpoint, lora: LoraFolder) -> Checkpoint:
    """The checkpoint with one more adapter on it, and talked to as that was trained, where its folder says how.

    Raises:
        BrokenCheckpoint: the adapter's weights are missing.
    """
    if not is_whole(lora.folder):
        what = f"holds no {_WEIGHTS[0]}" if is_lora(lora.folder) else f"holds no LoRA adapter ({CONFIG})"
        raise BrokenCheckpoint(f"{lora.folder} {what}: check what it is, or get it again.")
    texts = lora.folder if _talks(lora.folder) else checkpoint.texts
    return replace(checkpoint, loras=(*checkpoint.loras, lora), texts=texts)


def as_model(base: Checkpoint, lora: LoraFolder, revision: str) -> Checkpoint:
    """An adapter that was named alone: its base model under its own name and revision."""
    return replace(with_lora(base, lora), name=lora.name, revision=revision, base=base.known_as)


def _talks(folder: Path) -> bool:
    """Whether an adapter brings a tokenizer of its own with a chat template."""
    if not (folder / "tokenizer.json").is_file():
        return False
    config = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        config.is_file() and bool(read_json(config).get("chat_template"))
    )
