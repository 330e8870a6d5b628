"""Requests to a batch, with all that they are told, and what each comes to alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chatcli.generation import DEFAULTS, GenerationSettings, Progress
from chatcli.runtime.continuous import Continuous
from chatcli.runtime.model import CausalModel
from chatcli.runtime.requests import Request, Told

GREEDY = GenerationSettings(temperature=0.0).over(DEFAULTS)
END = (2,)


@dataclass
class Heard:
    """A request with all that it was told."""

    request: Request
    told: list[Told] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [each for each in self.told if isinstance(each, int) and not isinstance(each, bool)]

    @property
    def over(self) -> bool:
        return bool(self.told) and isinstance(self.told[-1], bool | BaseException)

    @property
    def cached(self) -> int:
        first = self.told[0]
        assert isinstance(first, Progress)
        return first.done


def ask(ids: list[int], settings: GenerationSettings = GREEDY, limit: int = 12, **more: Any) -> Heard:
    heard = Heard(Request(ids, settings, END, limit, lambda each: None, **more))
    heard.request.tell = heard.told.append
    return heard


def alone(model: CausalModel, ids: list[int], settings: GenerationSettings = GREEDY, limit: int = 12) -> list[int]:
    return [each for each in model.generate(ids, settings, end=END, limit=limit) if isinstance(each, int)]


def run(batch: Continuous, *heard: Heard) -> None:
    for each in heard:
        batch.add(each.request)
    while batch.advance():
        pass
    assert all(each.over for each in heard)


def text(seed: int, length: int) -> list[int]:
    return [3 + (seed * 7919 + place * 31) % 300 for place in range(length)]
