"""Which replica has read the beginning of a prompt already, and whether it is worth waiting for that one.

A prompt is told by its `Beginning`s: a hash after every message and every block of a long one, each of all that
comes before, so that two prompts share a hash just where they begin alike. The hashes are Python's own, salted
anew in every process: nobody can make two texts that collide. It knows no model, no token and no Ray; the simulation
in `benchmarks/scale_simulation.py` and the router of Ray Serve use the same lines.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from chatcli.conversation import Conversation, Message

BLOCK = 2048
"""Characters of a message (or ids of a raw prompt) between two hashes: a document that is asked about twice."""
HOLDERS = 8
"""Replicas that are remembered for a beginning. What more have read is no reason to go to any: all will have soon."""
LIMIT = 400_000
"""Beginnings that are remembered; those used longest ago are forgotten first."""
CHARACTERS_PER_REQUEST = 600.0
"""What a request that is being answered costs the next one, in characters that could be read in that time: between
200 and 2000 it makes little difference in the simulation, none at all piles requests up, and ten times that reads
twice as much again."""

Replica = TypeVar("Replica", bound=Hashable)
Load: TypeAlias = Callable[[Replica], "float | None"]
"""How many requests a replica is answering; None where it is no more."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A prompt up to some place: its hash, and how many characters it has."""

    key: int
    length: int


def of_conversation(model: str, conversation: Conversation) -> list[Beginning]:
    """The beginnings of a conversation as `model` is asked it; the tools are read before all that was said."""
    seed = hash((model, conversation.tools))
    return _beginnings(seed, (_spelled(message) for message in conversation.messages))


def of_prompt(model: str, prompt: str | Sequence[int]) -> list[Beginning]:
    """The beginnings of a raw prompt, a text or token ids."""
    return _beginnings(hash((model, type(prompt) is str)), (prompt if isinstance(prompt, str) else tuple(prompt),))


def _spelled(message: Message) -> str:
    """All of a message that a model reads; files are told by what they hold."""
    files = "".join(each.text or each.sha256 for each in message.attachments)
    calls = "".join(f"{each.name}{each.arguments}" for each in message.calls)
    return f"{message.role}\0{files}{message.text}{calls}"


def _beginnings(key: int, parts: Iterable[str | tuple[int, ...]]) -> list[Beginning]:
    found: list[Beginning] = []
    length = 0
    for part in parts:
        for start in range(0, len(part), BLOCK):
            block = part[start : start + BLOCK]
            key = hash((key, block))
            length += len(block)
            found.append(Beginning(key, length))
    return found


class Beginnings(Generic[Replica]):
    """Who has read what, as far as one router knows: what it sent there itself.

    A replica may have dropped a beginning since, or read it for another router; the guess then costs some reading,
    never a wrong answer. `request_cost` is in the unit of a prompt's length.
    """

    def __init__(self, limit: int = LIMIT, request_cost: float = CHARACTERS_PER_REQUEST) -> None:
        self._limit = limit
        self._request_cost = request_cost
        self._holders: OrderedDict[int, tuple[Replica, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def note(self, prompt: Sequence[Beginning], replica: Replica) -> None:
        """`replica` reads `prompt` now. The longest beginnings are noted first, so they are forgotten first, too."""
        for each in reversed(prompt):
            before = self._holders.get(each.key, ())
            if len(before) <= HOLDERS and replica not in before:
                before = (*before, replica)
            self._holders[each.key] = before
            self._holders.move_to_end(each.key)
        while len(self._holders) > self._limit:
            self._holders.popitem(last=False)

    def longest(self, prompt: Sequence[Beginning], ongoing: Load[Replica]) -> tuple[int, tuple[Replica, ...]]:
        """Characters of the longest beginning that a replica has read which is there still, and which have.

        None at all means that so many have that it is no reason to choose one.
        """
        for each in reversed(prompt):
            holders = self._holders.get(each.key, ())
            if len(holders) > HOLDERS:
                return each.length, ()
            there = tuple(replica for replica in holders if ongoing(replica) is not None)
            if there:
                return each.length, there
        return 0, ()

    def choose(self, prompt: Sequence[Beginning], drawn: Sequence[Replica], ongoing: Load[Replica]) -> Replica:
        """The replica that should be able to answer first: one that has read the longest beginning, or one of `drawn`.

        Those are some that were drawn by lot, two at best, whose load is known. What a
        replica has to read counts, and what it is answering already: a talk stays where its cache is until that one is
        so much busier than another that reading again is quicker. It takes no longer the more replicas there are.
        """
        read, holders = self.longest(prompt, ongoing)
        length = prompt[-1].length if prompt else 0

        def cost(replica: Replica) -> float:
            known = read if replica in holders or not holders else 0
            return length - known + (ongoing(replica) or 0) * self._request_cost

        return min((*holders, *drawn), key=cost)
