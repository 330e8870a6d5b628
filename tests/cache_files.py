"""Models as they lie in the Hub's cache: blobs, links to them, references."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from hub_server import CHAT_MODEL

SMALL = {
    name: CHAT_MODEL[name] for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
}


def put(cache: Path, name: str, files: Mapping[str, bytes] = SMALL, commit: str = "a" * 40, ref: str = "main") -> Path:
    """The snapshot of a revision, put into the cache; what two revisions have alike is one blob."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for path, content in files.items():
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if ref:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot
