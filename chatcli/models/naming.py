"""What a model is called: a folder, a file or a Hub id, with the adapters put on it.

    NAME [+ ADAPTER[=SCALE]]...           any model with LoRA adapters
    ORGANISATION/MODEL[/FOLDER][:FILE]    a model of the Hub; FILE picks a GGUF file by its quantisation or its name

A whole name means the same model again, so the history and aliases need nothing beside it. It looks at no disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chatcli.load_request import Lora, parse_lora

_PLUS = " + "
# As huggingface_hub validates them: at most one slash, letters, digits, - _ . and no double -- or ..
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9_][\w.-]{0,95}(?<![.-])", re.ASCII)
_MOST = 96


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, perhaps a folder in it, perhaps one of its GGUF files by quantisation or name."""

    repository: str
    subfolder: str = ""
    file: str = ""

    def __str__(self) -> str:
        """As a person writes it."""
        return "/".join(filter(None, (self.repository, self.subfolder))) + (f":{self.file}" if self.file else "")


def hub_name(text: str) -> HubName | None:
    """The parts of a name that the Hub could have; None for any other."""
    path, _, file = text.partition(":")
    parts = path.split("/")
    repository, folders = "/".join(parts[:2]), parts[2:]
    if len(repository) > _MOST or not _HUB_ID.fullmatch(repository) or text.endswith(":"):
        return None
    if any(part in ("", ".", "..") or "\\" in part for part in (*folders, *(file.split("/") if file else ()))):
        return None
    return HubName(repository, "/".join(folders), file)


def inside(base: str, folder: str) -> str:
    """The name of a folder within what `base` names."""
    folder = folder.strip("/")
    if not folder:
        return base
    found = hub_name(base)
    return str(HubName(found.repository, folder, found.file)) if found else f"{base}/{folder}"


def with_loras(base: str, loras: tuple[Lora, ...]) -> str:
    """One name for a model and its adapters; those that it has already are not put on twice."""
    base, there = without_loras(base)
    more = tuple(each for each in loras if each.name not in {lora.name for lora in there})
    return _PLUS.join((base, *(_written(each) for each in (*there, *more))))


def without_loras(name: str) -> tuple[str, tuple[Lora, ...]]:
    """The model and its adapters, out of one name.

    Raises:
        UsageError: an adapter's part is no name and scale.
    """
    base, *loras = name.split(_PLUS)
    return base.strip(), tuple(parse_lora(each) for each in loras)


def is_ambiguous(path: str) -> bool:
    """Whether a path would be read as a model and adapters."""
    return _PLUS in path


def _written(lora: Lora) -> str:
    return lora.name if lora.scale == 1 and "=" not in lora.name else f"{lora.name}={lora.scale:g}"
