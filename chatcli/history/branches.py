"""The ways that a conversation took: every end of its message tree, as a person tells them apart.

It knows rows of the tree and nothing of how they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatcli.conversation import Role

BEGINNING = 200
"""Characters of a message that are read, enough to recognise it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A message of the tree; `empty` is a reply that was broken off before its first word."""

    id: int
    parent: int | None
    role: Role
    beginning: str
    empty: bool
    model: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Branch:
    """One way: its last message's row, its last question and the answer to it, empty where there is none.

    `current` says that the conversation goes on from here.
    """

    id: int
    question: str
    answer: str
    model: str
    created_at: float
    current: bool


def branches(nodes: Sequence[Node], head: int | None) -> list[Branch]:
    """The ends of the tree in the order of their making; after an undo none of them is current."""
    kept = {node.id: node for node in nodes if not node.empty}
    inner = {node.parent for node in kept.values()}
    under = {node.id: node.parent for node in nodes}
    end = head if head in kept else under.get(head or 0)
    found = []
    for node in kept.values():
        if node.id in inner:
            continue
        asked = node if node.role == "user" else kept.get(node.parent or 0)
        answer = node.beginning if node.role == "assistant" else ""
        question = asked.beginning if asked else ""
        found.append(Branch(node.id, question, answer, node.model, node.created_at, node.id == end))
    return found
