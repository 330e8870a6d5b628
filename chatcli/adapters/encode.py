"""A prompt's token ids: template tokens as control ids, people's words never, the model's own ids untouched.

The ids a model really made for a reply can differ from those its text encodes to; putting them back
keeps a KV cache valid from turn to turn. This module knows no templates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chatcli.adapters.prompt import Prompt
from chatcli.models.tokenizer import Tokenizer

# Something to stand before a continuation and be taken off again; which one stays apart from the text
# behind it depends on the vocabulary.
_ANCHORS = ("\n", ".", "x", "，")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply the model made: its text, exactly as the ids decode, and the ids."""

    text: str
    ids: tuple[int, ...]


def encode(
    tokenizer: Tokenizer, prompt: Prompt, spoken: Sequence[Spoken] = (), control: Collection[str] = ()
) -> list[int]:
    """The ids of a whole prompt, without anything that the template did not write.

    A prompt without cuts or known replies gives `tokenizer.encode(text, add_special_tokens=False)`.
    `spoken` are earlier replies, oldest first; those found in the prompt, from the latest back, are put
    in by their ids. `control` are the texts the prompt was built with: tokenizers that change letters
    before they look for special tokens can find one where none was typed, and those are cut, too.
    """
    # By ids: where letters are changed first, a token's own text in the vocabulary may be a changed one.
    spellings = {number: text for text in control if (number := tokenizer.token_to_id(text)) is not None}
    anchors = _ANCHORS if _adds_space(tokenizer) else ()
    ids: list[int] = []
    position = 0
    for start, end, reply in [*_replies(tokenizer, prompt, spoken), (len(prompt.text), len(prompt.text), ())]:
        edges = [position, *(c for c in prompt.cuts if position < c < start), start]
        for a, b in pairwise(edges):
            ids += _encode_piece(tokenizer, prompt.text[a:b], a > 0, anchors, spellings)
        ids += reply
        position = end
    return ids


def _replies(tokenizer: Tokenizer, prompt: Prompt, spoken: Sequence[Spoken]) -> list[tuple[int, int, tuple[int, ...]]]:
    """Spans of the prompt with the ids that stand for them; matched backwards, as old replies may have no ids."""
    found: list[tuple[int, int, tuple[int, ...]]] = []
    left = list(spoken)
    for start, end in reversed(prompt.replies):
        index = next((i for i in range(len(left) - 1, -1, -1) if left[i].text == prompt.text[start:end]), -1)
        if index < 0:
            continue
        ids = left[index].ids
        del left[index:]
        # SentencePiece keeps the space before a word in its token and drops it when it decodes.
        spaced = bool(ids) and (tokenizer.id_to_token(ids[0]) or "").startswith("▁")
        inner = spaced and prompt.text[start - 1 : start] == " " and not prompt.text[start].isspace()
        found.append((start - inner, end, ids))
    return found[::-1]


def _encode_piece(
    tokenizer: Tokenizer, text: str, continues: bool, anchors: Sequence[str], control: Mapping[int, str]
) -> list[int]:
    """One stretch without cuts; `continues` when other text stands before it, which `anchors` then stand for."""
    if not text:
        return []
    ids, offsets = _encode(tokenizer, text, anchors if continues else ())
    # `normalized` added tokens are looked for in changed text: "＜s＞" can become <s> on the way.
    revealed = [
        start + 1
        for each, (start, end) in zip(ids, offsets, strict=True)
        if each in control and end - start > 1 and control[each] not in text[start:end]
    ]
    if not revealed:
        return ids
    return [
        each
        for a, b in pairwise([0, *revealed, len(text)])
        for each in _encode_piece(tokenizer, text[a:b], continues or a > 0, anchors, control)
    ]


def _encode(tokenizer: Tokenizer, text: str, anchors: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and offsets; a continuation must not gain the space that SentencePiece puts before a text."""
    for anchor in anchors:
        alone = tokenizer.encode(anchor, add_special_tokens=False).ids
        whole = tokenizer.encode(anchor + text, add_special_tokens=False)
        n = len(alone)
        if n and whole.ids[:n] == alone and whole.offsets[n - 1][1] <= 1:
            offsets = [(max(a - 1, 0), max(b - 1, 0)) for a, b in whole.offsets[n:]]
            return whole.ids[n:], offsets
    plain = tokenizer.encode(text, add_special_tokens=False)
    return plain.ids, plain.offsets


def _adds_space(tokenizer: Tokenizer) -> bool:
    tokens = tokenizer.encode("x", add_special_tokens=False).tokens
    return bool(tokens) and tokens[0][0] in "▁Ġ"


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text as such, outside any chat; control tokens in it count as what they are."""
    whole = text.encode("utf-8", "replace").decode("utf-8")  # an argument that is no UTF-8 holds lone surrogates
    return list(tokenizer.encode(whole, add_special_tokens=False).ids)
