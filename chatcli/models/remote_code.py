"""The Python code that a checkpoint brings: who names it, what it is, and whether a person has agreed to it.

An agreement holds for one name at one commit with just these files; any other byte is another code. This module
reads and hashes code and never runs it; which families need it, the runtime knows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from chatcli.errors import ChatcliError, RemoteCodeRefused
from chatcli.models.checkpoint import Checkpoint, read_json

_FILE = "trusted-code.json"


def model_code(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes that config.json wants run: "module.Class", or "other/repository--module.Class"."""
    return _references(checkpoint.config.get("auto_map"))


def tokenizer_code(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes that tokenizer_config.json wants run; none where a tokenizer.json makes them needless.

    Nor does a GGUF file or an adapter's own tokenizer.
    """
    path = checkpoint.folder / "tokenizer_config.json"
    if checkpoint.gguf or checkpoint.texts or (checkpoint.folder / "tokenizer.json").is_file() or not path.is_file():
        return ()
    auto_map = read_json(path).get("auto_map")
    # The first checkpoints with code wrote [slow, fast] and no table.
    return _references(auto_map.get("AutoTokenizer") if isinstance(auto_map, Mapping) else auto_map)


def _references(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, Mapping):
        value = list(value.values())
    return tuple(r for each in value for r in _references(each)) if isinstance(value, list) else ()


def named_files(references: Collection[str]) -> str:
    """The files of these classes, for people: "modeling_own.py, modeling_other.py of other/repository"."""
    files = set()
    for reference in references:
        repository, _, target = reference.rpartition("--")
        path = target.rpartition(".")[0].replace(".", "/") + ".py"
        files.add(f"{path} of {repository}" if repository else path)
    return ", ".join(sorted(files))


def require_own_code(checkpoint: Checkpoint, references: Collection[str]) -> None:
    """Refuse code that lies in another repository, which no commit of this one holds fast.

    Raises:
        RemoteCodeRefused: naming the files.
    """
    foreign = [reference for reference in references if "--" in reference]
    if foreign:
        raise RemoteCodeRefused(
            f"{checkpoint.name} wants Python code of another repository run ({named_files(foreign)}), which its own "
            "commit does not hold fast: chatcli never runs it; choose a version converted to a native family."
        )


def require_agreement(checkpoint: Checkpoint, references: Collection[str]) -> None:
    """Pass a checkpoint that needs no code of its own (no `references`), or whose code is agreed to.

    Raises:
        RemoteCodeRefused: naming the files.
    """
    if not references:
        return
    require_own_code(checkpoint, references)
    if not checkpoint.trusted:
        raise RemoteCodeRefused(
            f"{checkpoint.name} ({checkpoint.model_type}) runs only with its own Python code ({named_files(references)}"
            "), which chatcli does not run unasked: look for a version converted to a native family, or read the code "
            "and add --trust-remote-code."
        )


def code_files(folder: Path) -> tuple[str, ...]:
    """The Python files of a folder, by their paths in it; those in linked folders are among them."""
    found, seen = [], set[Path]()
    for place, inner, names in os.walk(folder, followlinks=True):
        if (here := Path(place).resolve()) in seen:  # links may go in a circle
            inner.clear()
            continue
        seen.add(here)
        inner.sort()
        found += [Path(place, name) for name in names if name.endswith(".py")]
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found if path.is_file()))


def fingerprint(folder: Path, names: Sequence[str] = ()) -> str:
    """Forty hexadecimal digits that stand for the names and contents of a folder's Python files.

    As long as a commit and used like one, for folders that have none.
    """
    digest = hashlib.sha256()
    for name in names or code_files(folder):
        content = (folder / name).read_bytes()
        digest.update(f"{len(name.encode())} {len(content)} {name}".encode() + content)
    return digest.hexdigest()[:40]


def is_agreed(state: Path, checkpoint: Checkpoint) -> bool:
    """Whether a person agreed to run the code that lies in the checkpoint's folder now."""
    return bool(code_files(checkpoint.folder)) and _entry(checkpoint) in _agreements(state)


def agree(state: Path, checkpoint: Checkpoint) -> None:
    """Remember that a person agreed to the code that lies in the checkpoint's folder now."""
    known = _agreements(state)
    if (entry := _entry(checkpoint)) in known:
        return
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = state / f"{_FILE}.{os.getpid()}"
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"trusted": [*known, entry]}, file, indent=1, ensure_ascii=False)
        fresh.replace(state / _FILE)
    except OSError as error:
        raise ChatcliError(f"{state / _FILE} cannot be written ({error.strerror}): check its folder.") from error


def _entry(checkpoint: Checkpoint) -> dict[str, str]:
    where = checkpoint.name if checkpoint.revision else str(checkpoint.folder.resolve())
    return {"model": where, "commit": checkpoint.revision, "code": fingerprint(checkpoint.folder)}


def _agreements(state: Path) -> list[dict[str, str]]:
    """What was agreed to; a file that cannot be read holds nothing."""
    try:
        listed = json.loads((state / _FILE).read_text(encoding="utf-8"))["trusted"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
