"""A checkpoint on disk: its folder and what its config.json says.

It reads JSON and judges it before anything heavy is loaded: what kind of model this is, how much it
can read, whether it chats. It knows no Hub, no tensor and no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcli.errors import BrokenCheckpoint, ModelNotFound, NotAChatModel
from chatcli.models import purposes
from chatcli.models.purposes import PURPOSES, T5

if TYPE_CHECKING:
    from chatcli.models.gguf_file import GgufFile

_LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "seq_length",
    "max_sequence_length",
    "max_seq_len",
    "n_ctx",
    "model_max_length",
)
# Families whose first config.json files do not say it.
_TRAINED_LENGTHS = {"RefinedWeb": 2048, "RefinedWebModel": 2048, "falcon": 2048}
_LAYER_KEYS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
_COUNT_KEYS = (*_LAYER_KEYS, "hidden_size", "n_embd", "num_attention_heads", "vocab_size")
_MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class LoraFolder:
    """The files of an adapter, what a person calls it, and how strongly it counts."""

    name: str
    folder: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One model's files.

    `name` is what the person said, `revision` a commit or empty for a plain folder; `trusted` says that a person
    agreed to run the Python code in just this folder as it is now. A `gguf` file holds all that other checkpoints
    have in several. `loras` are put on once it is loaded; `texts` is the folder of the tokenizer where it is not the
    model's own; `base` is the model's name where the person named an adapter of it.
    """

    name: str
    folder: Path
    revision: str
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    trusted: bool = False
    gguf: GgufFile | None = None
    loras: tuple[LoraFolder, ...] = ()
    texts: Path | None = None
    base: str = ""

    @property
    def known_as(self) -> str:
        """The name that rows of the table are found by: without adapters, and of a GGUF file the file's own."""
        return self.gguf.files[0].stem if self.gguf else (self.base or self.name).partition(" + ")[0]

    @property
    def model_type(self) -> str:
        """The family as config.json names it."""
        return str(self.config["model_type"])

    @property
    def family(self) -> str:
        """`model_type`, or a more exact name where several families share one: rows of the table go by it."""
        if self.model_type != "chatglm":
            return self.model_type
        from chatcli.models.chatglm import variant

        return variant(self.config, self.folder, self.name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        BrokenCheckpoint: the file is not UTF-8, not JSON, not an object, or cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise BrokenCheckpoint(f"{path} is nested too deeply to be read: download the model again.") from error
    except (OSError, ValueError) as error:
        hint = "it may be cut off: download the model again"
        raise BrokenCheckpoint(f"{path} cannot be read as JSON ({_brief(error)}); {hint}.") from error
    if not isinstance(data, dict):
        raise BrokenCheckpoint(f"{path} holds a JSON {type(data).__name__} where an object belongs.")
    return data


def _brief(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if len(text) < 120 else text[:117] + "..."


def open_checkpoint(folder: Path, name: str = "", revision: str = "") -> Checkpoint:
    """Read a folder's config.json and generation_config.json, or the header of a GGUF file.

    Keys that choose an attention kernel are dropped: transformers would fetch the code they name,
    whatever `attn_implementation` says.

    Raises:
        ModelNotFound: there is no such folder.
        BrokenCheckpoint: config.json is missing, damaged or contradicts itself.
        NotAChatModel: the folder holds a diffusion pipeline.
    """
    folder = folder.expanduser()
    name = name or folder.name
    if folder.suffix.lower() == ".gguf":
        return _open_gguf(folder, name, revision)
    if not folder.is_dir():
        raise ModelNotFound(f"There is no folder {folder}: check the path.")
    path = folder / "config.json"
    if (folder / "model_index.json").is_file():  # of diffusers, whose parts have a config.json each
        raise _no_chat(name, PURPOSES["image generator"])
    if not path.is_file():
        raise BrokenCheckpoint(f"{folder} has no config.json, so it is no Hugging Face checkpoint.")
    config = _without_kernels(read_json(path))
    _check(config, path)
    generation = folder / "generation_config.json"
    return Checkpoint(name, folder, revision, config, read_json(generation) if generation.is_file() else {})


def _open_gguf(path: Path, name: str, revision: str) -> Checkpoint:
    from chatcli.models import gguf_config
    from chatcli.models.gguf_file import read_gguf

    file = read_gguf(path)
    config = gguf_config.config(file)
    _check(config, path)
    return Checkpoint(name, path.parent, revision, config, gguf_config.generation_config(file), gguf=file)


def _without_kernels(config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration, at every depth, without `attn_implementation` and `_attn_implementation*`."""
    return {
        key: _without_kernels(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not key.lstrip("_").startswith("attn_implementation")
    }


def _check(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise BrokenCheckpoint(f"{path} names no model_type, so nobody can tell what model this is.")
    for part in (config, text_config(config)):
        for key in _COUNT_KEYS:
            value = part.get(key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
                raise BrokenCheckpoint(f"{path} says {key} = {value!r}, which must be a whole number above 0.")
        for key in _LAYER_KEYS:
            if (part.get(key) or 0) > _MOST_LAYERS:
                raise BrokenCheckpoint(f"{path} says {key} = {part[key]}, and no model has so many layers.")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model: its own, or a nested one."""
    for key in ("text_config", "llm_config", "language_config"):
        nested = config.get(key)
        if isinstance(nested, Mapping):
            return nested
    return config


def context_length(config: Mapping[str, Any]) -> int:
    """How many tokens the model can read, as trained: `rope_scaling` is contained in it. 0 where unknown.

    T5's positions are relative and its `n_positions` of 512 no limit; 2048 is what FastChat reads with it.
    """
    if config.get("model_type") in T5:
        return 2048
    for part in (text_config(config), config):
        for key in _LENGTH_KEYS:
            value = part.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return _TRAINED_LENGTHS.get(str(config.get("model_type")), 0)


def require_chat_model(checkpoint: Checkpoint) -> None:
    """Pass over what may chat; say of all else what it is for.

    Raises:
        NotAChatModel: an encoder, a classifier, a translator, an image or speech model.
    """
    if said := purposes.purpose(checkpoint.config, _names(checkpoint)):
        raise _no_chat(checkpoint.name, said)


def makes_vectors(checkpoint: Checkpoint) -> bool:
    """Whether it is there to turn texts into vectors, and nothing else."""
    return not checkpoint.gguf and purposes.makes_vectors(checkpoint.config, _names(checkpoint))


def _names(checkpoint: Checkpoint) -> frozenset[str]:
    """The names of its files."""
    folder = checkpoint.folder
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _no_chat(name: str, purpose: str) -> NotAChatModel:
    return NotAChatModel(f"{name} is {purpose}; it does not chat: try Qwen/Qwen3-0.6B, for one.")
