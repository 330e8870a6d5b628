"""The Hub's cache on disk, read as it lies: which checkpoints are here, and which are here wholly.

The layout is documented (https://huggingface.co/docs/huggingface_hub/guides/manage-cache) and reading it
directly costs nothing, where importing huggingface_hub costs 0.25 s. It never opens a connection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from chatcli.errors import BrokenCheckpoint
from chatcli.models.weights import shards

_COMMIT = 40
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_TEXTS = frozenset(
    {*_TOKENIZERS, "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"added_tokens.json", "merges.txt", "chat_template.jinja", "chat_template.json", "processor_config.json"}
    | {"preprocessor_config.json", "ice_text.model", "tekken.json", "model.safetensors.index.json", "modules.json"}
    | {"pytorch_model.bin.index.json", "sentence_bert_config.json"}
)
_NESTED = re.compile(r"additional_chat_templates/[^/]+\.jinja|\d+_Pooling/config\.json")


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps its files: HF_HUB_CACHE, else HF_HOME/hub, else the user's cache folder."""
    if said := variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(said)).expanduser()
    if home := variables.get("HF_HOME"):
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    return Path(variables.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def repository_folder(cache: Path, repository: str) -> Path:
    """The folder of one repository, whether it exists or not."""
    return cache / ("models--" + repository.replace("/", "--"))


def pull_note(folder: Path) -> Path:
    """Where a download that is not finished says what it wants: {"commit": ..., "files": {name: bytes}}."""
    return folder / ".chatcli-pull.json"


def cached_names(cache: Path) -> list[str]:
    """The Hub ids of all models with files in the cache."""
    try:
        folders = sorted(cache.glob("models--*"))
    except OSError:
        return []
    return [f.name.removeprefix("models--").replace("--", "/") for f in folders if any(f.glob("snapshots/*"))]


def commit_of(cache: Path, repository: str, revision: str) -> str:
    """The commit that a branch, a tag or a (shortened) commit stands for here; empty where unknown."""
    folder = repository_folder(cache, repository)
    try:
        reference = folder / "refs" / revision
        if reference.is_file():
            return reference.read_text(encoding="ascii").strip()
        found = [f.name for f in (folder / "snapshots").iterdir() if len(revision) >= 7 and f.name.startswith(revision)]
    except (OSError, ValueError):
        return ""
    return found[0] if len(found) == 1 else ""


def revision_folder(cache: Path, repository: str, revision: str = "main") -> Path | None:
    """The folder with what is here of a revision; None where nothing is."""
    commit = commit_of(cache, repository, revision)
    folder = repository_folder(cache, repository) / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def snapshot(cache: Path, repository: str, revision: str = "main") -> Path | None:
    """The folder with all files of a revision, or None where any that is needed is not here."""
    folder = revision_folder(cache, repository, revision)
    return folder if folder and is_complete(folder) else None


def begun(cache: Path, repository: str, revision: str = "main") -> Path | None:
    """The folder with a revision's small files, whether its weights are here or not; None without a config.json."""
    folder = revision_folder(cache, repository, revision)
    return folder if folder and (folder / "config.json").is_file() else None


def is_complete(folder: Path) -> bool:
    """Whether config, tokenizer and all weights of the index are here. Says nothing of their health."""
    if not (folder / "config.json").is_file() or not any((folder / t).is_file() for t in _tokenizers(folder)):
        return False
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return True
        index = folder / f"{stem}.index.json"
        if index.is_file():
            try:
                return all((folder / name).is_file() for name in shards(index))
            except BrokenCheckpoint:
                return False
    return False


def _tokenizers(folder: Path) -> Iterator[str]:
    yield from _TOKENIZERS
    yield from ("ice_text.model", "tekken.json")
    yield from (path.name for path in folder.glob("*.tiktoken"))


def needed(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of a repository's files those that a chat, or a model for vectors, needs: (small ones, weights).

    Safetensors, else PyTorch's `.bin`; never another framework's weights, never a second copy of the same
    (`consolidated*`, `original/`, a single file beside its shards), never Python code.
    """
    files = list(files)
    top = [name for name in files if "/" not in name]
    named = [n for n in files if _NESTED.fullmatch(n)]
    small = sorted(named + [n for n in top if n in _TEXTS or n.endswith(".tiktoken")])
    weights: list[str] = []
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        if f"{stem}{suffix}" in top:
            weights = [f"{stem}{suffix}"]
        else:
            weights = sorted(n for n in top if n.startswith(f"{stem}-") and n.endswith(suffix))
        if weights:
            drop = {f"{s}.index.json" for s in ("model.safetensors", "pytorch_model.bin") if not s.endswith(suffix)}
            return [n for n in small if n not in drop], weights
    return small, []
