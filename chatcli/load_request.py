"""What a person says about how a model is to be run: precision, place, adapters.

Values only, read from words; what is left open is the plan's to decide. It knows no model and no device. An error
here is the end of a sentence that begins with the setting and what it cannot be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from chatcli.errors import UsageError

Quantization: TypeAlias = Literal["none", "int8", "int4", "fp8"]
Fit: TypeAlias = Literal["auto", "strict"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("auto", "none", "int8", "int4", "fp8")
FITS = ("auto", "strict")

_SIZE = r"(?i)(\d{1,15}(?:\.\d+)?)\s*([kmgt]?)(i?)b?"
_DURATION = r"(?i)(\d+(?:\.\d+)?)\s*([smh]?)"
_NUMBER = r"\d{1,4}"
_DEVICE = r"auto|cpu|mps|(cuda|xpu)(:\d+)?"


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter over the model's weights: a folder or a Hub id, and how strongly it counts."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """How a person wants a model to be run.

    `adapter` is the row of the table that says how it is talked to, if a person names one.
    `dtype` and `device` are torch's names, empty where the plan decides; `quantization` is None there.
    `devices` are the GPUs that may be used, by number, none meaning all. `max_memory` bounds what is taken, in bytes,
    by a GPU's number or "cpu". `context` is how many tokens of talk must have room; 0 leaves it to the plan. With
    `fit` "strict" nothing is given up to make a model fit. `draft` is a smaller model that guesses: what a person calls
    it, then its folder. With `compile` True a faster step is built by this machine's compiler, and where that cannot be
    a note says why; with None it is built where nobody hears of it.
    """

    revision: str = ""
    subfolder: str = ""
    adapter: str = ""
    dtype: str = ""
    quantization: Quantization | None = None
    fit: Fit = "auto"
    context: int = 0
    device: str = ""
    devices: tuple[int, ...] = ()
    max_memory: Mapping[int | str, int] = field(default_factory=dict)
    loras: tuple[Lora, ...] = ()
    draft: str = ""
    compile: bool | None = False


NOTHING_SAID = LoadRequest()
"""What holds where nobody says anything: the plan decides all of it."""


def parse_size(text: str) -> int:
    """Bytes: "20GiB" counts in 1024s, "20GB" in 1000s.

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(_SIZE, text.strip())
    if not found:
        raise UsageError("a size of memory is written 20GiB or 500MB.")
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))


def parse_duration(text: str) -> float:
    """Seconds: "90", "90s", "5m", "1h"; "forever" has no end.

    Raises:
        UsageError: it is no length of time.
    """
    if text.strip().lower() == "forever":
        return math.inf
    found = re.fullmatch(_DURATION, text.strip())
    if not found:
        raise UsageError("a time is written 90s, 5m, 1h, 0 or forever.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "": 1}[found[2].lower()]


def parse_max_memory(text: str) -> dict[int | str, int]:
    """Limits by place: "0=20GiB,cpu=64GiB".

    Raises:
        UsageError: a part is no place and size.
    """
    limits: dict[int | str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        place, _, size = part.partition("=")
        place = place.strip().removeprefix("cuda:").removeprefix("xpu:")
        if not size or not (re.fullmatch(_NUMBER, place) or place in ("cpu", "disk")):
            raise UsageError("write places and sizes, as in 0=20GiB,cpu=64GiB.")
        limits[int(place) if place.isdecimal() else place] = parse_size(size)
    return limits


def parse_devices(text: str) -> tuple[int, ...]:
    """The numbers of GPUs: "0,1".

    Raises:
        UsageError: they are no numbers.
    """
    parts = [each.strip() for each in text.split(",") if each.strip()]
    if not all(re.fullmatch(_NUMBER, each) for each in parts):
        raise UsageError("write the numbers of GPUs, as in 0,1.")
    return tuple(dict.fromkeys(map(int, parts)))


def check_device(text: str) -> None:
    """Pass over the name of a device: auto, cpu, mps, cuda, cuda:1, xpu.

    Raises:
        UsageError: torch has no device of that name.
    """
    if not re.fullmatch(_DEVICE, text):
        raise UsageError("it must be auto, cpu, cuda, cuda:1, xpu or mps.")


def parse_lora(text: str) -> Lora:
    """An adapter by its name or folder, with its scale behind `=`: "org/adapter=0.5".

    Raises:
        UsageError: the name is empty or the scale no number.
    """
    name, equals, scale = text.rpartition("=")
    name, scale = (name.strip(), scale) if equals else (text.strip(), "1")
    try:
        strength = float(scale)
    except ValueError:
        strength = math.nan
    if not name or not math.isfinite(strength):
        raise UsageError("write NAME or NAME=SCALE, as in org/adapter=0.5.")
    return Lora(name, strength)
