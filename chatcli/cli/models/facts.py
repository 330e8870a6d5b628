"""What a list of models says of each: its family, parameters, precision, and whether it can chat.

Found out once from a model's small files and its weights' headers, and kept in the state folder until the model
changes, so that a list of hundreds opens none of them. It knows no terminal.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcli import __version__
from chatcli.environment import Environment
from chatcli.errors import BrokenCheckpoint, ModelError, NotAChatModel
from chatcli.models.extent import Extent, extent
from chatcli.models.inventory import Found

if TYPE_CHECKING:
    from chatcli.adapters.table import Table
    from chatcli.models.checkpoint import Checkpoint
    from chatcli.models.weights import Weights

_FILE = "models.json"
_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Facts:
    """One model as the list shows it; what is unknown is empty or None. `no_chat` is a few words on why it cannot."""

    family: str = ""
    parameters: int | None = None
    precision: str = ""
    no_chat: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was found, with what is known of it."""

    found: Found
    extent: Extent
    facts: Facts


def known(found: Sequence[Found], environment: Environment) -> list[Model]:
    """What is known of models: as it was found out before where nothing changed since, else found out now."""
    from chatcli.adapters.table import adapters_file, load_table

    own = adapters_file(environment.config_folder)
    rules = f"{__version__} {own.stat().st_mtime_ns if own.exists() else ''}"  # by which a verdict was reached
    memory = _remembered(environment.state_folder, rules)
    models, table = [], None
    for each in found:
        model = _from_memory(each, memory.get(str(each.path)))
        if model is None:
            table = table or load_table(environment.config_folder)
            model = _found_out(each, table)
        models.append(model)
    if table:
        _remember(environment.state_folder, rules, models)
    return models


def _found_out(found: Found, table: Table) -> Model:
    with _not_a_use(found.path):
        size = extent(found)
        return Model(found, size, _facts(found, size, table))


def _facts(found: Found, size: Extent, table: Table) -> Facts:
    from chatcli.models import lora
    from chatcli.models.checkpoint import open_checkpoint
    from chatcli.models.weights import weights

    if found.path.is_dir() and lora.is_whole(found.path):  # it chats where its base is
        return Facts("LoRA adapter")
    try:
        checkpoint = open_checkpoint(found.path, found.name, found.commit)
        match = table.match(checkpoint.known_as, checkpoint.family)
        family = match.adapter.name if match else checkpoint.model_type
        no_chat = _no_chat(checkpoint, table)
    except ModelError:
        return Facts(precision=found.precision, no_chat="not whole" if size.wanted else "no checkpoint")
    try:
        stored = weights(checkpoint) if size.whole else None
    except BrokenCheckpoint:
        return Facts(family, None, found.precision, "damaged")
    precision = found.precision or _precision(checkpoint, stored)
    return Facts(family, _parameters(checkpoint, stored), precision, no_chat if size.whole else "not whole")


def _no_chat(checkpoint: Checkpoint, table: Table) -> str:
    from chatcli.adapters.format import require_chat_format
    from chatcli.models.checkpoint import require_chat_model
    from chatcli.models.purposes import kind

    try:
        require_chat_model(checkpoint)
    except NotAChatModel:
        sort = kind(checkpoint.config)
        return "encoder" if sort == "masked" else sort
    try:
        require_chat_format(checkpoint, table)
    except NotAChatModel:
        return "base model"
    return ""


def _precision(checkpoint: Checkpoint, stored: Weights | None) -> str:
    """How checkpoints quantised by a method are called, else the type that most bytes are stored in."""
    from chatcli.models.plan.weighing import declared
    from chatcli.models.quantized import quantization_config

    said = quantization_config(checkpoint.config)
    if method := said.get("quant_method"):
        bits = said.get("bits") or (4 if said.get("load_in_4bit") else 8 if said.get("load_in_8bit") else "")
        return f"{str(method).removeprefix('compressed-')} {f'{bits} bit' if bits else ''}".rstrip()
    count: Counter[str] = Counter()
    for tensor in stored.tensors.values() if stored else ():
        count[tensor.dtype] += tensor.bytes
    return count.most_common(1)[0][0] if count else _NAMES.get(declared(checkpoint.config), "")


def _parameters(checkpoint: Checkpoint, stored: Weights | None) -> int | None:
    """How many numbers the model has: of packed integers as many as the bits of one hold."""
    from chatcli.models.plan.weighing import declared
    from chatcli.models.quantized import quantization_config

    if stored is None:
        return None
    if not stored.tensors:  # a `.bin` file tells its size alone
        bits = _BITS.get(declared(checkpoint.config))
        return stored.bytes * 8 // bits if bits and not quantization_config(checkpoint.config) else None
    said = quantization_config(checkpoint.config)
    bits = said.get("bits") or (4 if said.get("load_in_4bit") or said.get("quant_method") == "mxfp4" else 0)
    packed = {"I32": 32 // bits, "U8": 8 // bits} if isinstance(bits, int) and 0 < bits <= 8 else {}
    return sum(math.prod(tensor.shape) * packed.get(tensor.dtype, 1) for tensor in stored.tensors.values())


@contextmanager
def _not_a_use(path: Path) -> Iterator[None]:
    """Leave the access times of a model's files as they are: to list a model is not to use it."""
    files = [path] if path.is_file() else list(path.glob("*.safetensors")) + list(path.glob("*.bin"))
    times = []
    for file in files:
        with suppress(OSError):
            times.append((file, file.stat()))
    yield
    for file, before in times:
        with suppress(OSError):
            if file.stat().st_atime_ns != before.st_atime_ns:
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remembered(state: Path, rules: str) -> dict[str, dict[str, Any]]:
    try:
        said = json.loads((state / _FILE).read_text(encoding="utf-8"))
        return dict(said["models"]) if said["rules"] == rules else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _from_memory(found: Found, said: dict[str, Any] | None) -> Model | None:
    if not said or said.get("stamp") != list(found.stamp):
        return None
    try:
        return Model(found, Extent(**said["extent"]), Facts(**said["facts"]))
    except (KeyError, TypeError):
        return None


def _remember(state: Path, rules: str, models: Sequence[Model]) -> None:
    """Keep what was found out, but for downloads under way, which grow without a trace in their stamp."""
    kept = {
        str(m.found.path): {"stamp": m.found.stamp, "extent": asdict(m.extent), "facts": asdict(m.facts)}
        for m in models
        if m.extent.whole or not m.extent.wanted
    }
    fresh = state / f"{_FILE}.{os.getpid()}"
    with suppress(OSError):  # it would only be faster
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"rules": rules, "models": kept}), encoding="utf-8")
        fresh.chmod(0o600)
        fresh.replace(state / _FILE)
