"""Where pictures stand in a prompt: the one token that a template writes for each becomes what its model reads.

It knows texts and positions; what stands for a picture, the runtime says. It sees no pixel.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

from chatcli.adapters.prompt import Prompt
from chatcli.conversation import Attachment
from chatcli.errors import BrokenCheckpoint


class Pictures(Protocol):
    """How one model is shown pictures."""

    @property
    def placeholder(self) -> str:
        """What its template writes where a picture belongs."""
        ...

    def expansion(self, image: Attachment) -> str:
        """What the model reads in place of it: one token for each patch, and the marks of its family around them."""
        ...


def shown(prompt: Prompt, pictures: Pictures, images: Sequence[Attachment]) -> Prompt:
    """The prompt with the expansions of `images`, in their order, in the places that its template wrote.

    A placeholder that a person typed has a cut in it and stays what it is.

    Raises:
        BrokenCheckpoint: the template has no place for a picture, or another number of places.
    """
    cuts = frozenset(prompt.cuts)
    places = [
        found.span()
        for found in re.finditer(re.escape(pictures.placeholder), prompt.text)
        if not cuts & set(range(found.start() + 1, found.end()))
    ]
    if len(places) != len(images):
        raise BrokenCheckpoint(
            f"The model's chat template has {len(places)} places for {len(images)} pictures: use another checkpoint."
        )
    texts = [pictures.expansion(image) for image in images]
    starts = [start for start, _ in places]
    growth = [0, *accumulate(len(text) - (end - start) for text, (start, end) in zip(texts, places, strict=True))]

    def moved(position: int) -> int:
        return position + growth[bisect_left(starts, position)]

    pieces, position = [], 0
    for text, (start, end) in zip(texts, places, strict=True):
        pieces += [prompt.text[position:start], text]
        position = end
    pieces.append(prompt.text[position:])
    replies = tuple((moved(start), moved(end)) for start, end in prompt.replies)
    return replace(prompt, text="".join(pieces), cuts=tuple(map(moved, prompt.cuts)), replies=replies)
