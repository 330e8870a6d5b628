"""Which of a repository's files are fetched: those of the model, the GGUF file or the adapter that a name means.

It knows names only; what a chat needs of an ordinary checkpoint, cache.needed knows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chatcli.errors import BrokenCheckpoint, ModelNotFound
from chatcli.models import gguf_choice, lora
from chatcli.models.cache import needed
from chatcli.models.gguf_file import part_names
from chatcli.models.naming import HubName
from chatcli.models.refusals import nothing_to_run


@dataclass(frozen=True, slots=True)
class Selection:
    """Files by their paths in the repository: small ones, then weights.

    `opens` is what is opened once they are there, a folder or a GGUF file. `is_checkpoint` says that the small files
    tell what the model is; `note` is a sentence about a choice that was made.
    """

    small: tuple[str, ...]
    weights: tuple[str, ...]
    opens: str
    is_checkpoint: bool = False
    note: str = ""


def select(wanted: HubName, files: Collection[str]) -> Selection:
    """The files of `wanted`. Safetensors or `.bin` come before GGUF, unless a file is named.

    Raises:
        ModelNotFound: there is no such folder, or no such GGUF file; those that exist are named.
        BrokenCheckpoint: nothing there could chat.
    """
    prefix = f"{wanted.subfolder}/" if wanted.subfolder else ""
    inside = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    if prefix and not inside:
        raise ModelNotFound(f"{wanted.repository} has no folder {wanted.subfolder}{_folders(files)}.")

    def within(names: Collection[str]) -> tuple[str, ...]:
        return tuple(prefix + name for name in names)

    if not wanted.file:
        small, weights = needed(inside)
        if weights and "config.json" in small:
            return Selection(within(small), within(weights), wanted.subfolder, is_checkpoint=True)
        if lora.CONFIG in inside:
            return Selection((), within(lora.needed(inside)), wanted.subfolder)
    if not wanted.file and not gguf_choice.models(inside):
        raise BrokenCheckpoint(nothing_to_run(str(wanted), inside))
    chosen = gguf_choice.choose(str(wanted), inside, wanted.file)
    parts = part_names(chosen)
    if missing := set(parts) - set(inside):
        raise BrokenCheckpoint(f"{wanted} lacks a part of its model ({sorted(missing)[0]}): name another file.")
    return Selection((), within(parts), prefix + chosen, note="" if wanted.file else _choice(wanted, chosen, inside))


def _choice(wanted: HubName, chosen: str, inside: Collection[str]) -> str:
    there = gguf_choice.models(inside)
    kind = gguf_choice.quantisation(chosen)
    if len(there) < 2 or not kind:
        return ""
    return f"Of its GGUF files ({gguf_choice.listed(there)}) {kind} is taken; {wanted}:NAME takes another."


def _folders(files: Collection[str]) -> str:
    there = sorted({name.rpartition("/")[0] for name in files if "/" in name})
    return f"; there are {', '.join(there[:8])}" if there else ""
