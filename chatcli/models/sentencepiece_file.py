"""`tokenizer.model` of families whose own tokenizer is SentencePiece with special tokens around it.

Read with the `sentencepiece` library itself, which makes the ids that the family's own code made. A vocabulary of
125 000 pieces takes 0.2 s; to convert it into a `tokenizers.Tokenizer` takes 2.5 s. This module knows no family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint, read_json
from chatcli.models.pieces import PieceTokenizer, read_pieces

# Baichuan's and TeleChat's headers of turns: their own code joins these to a text by id, so they cut it.
_HEADER = re.compile(r"<(?:reserved_\d+|_[a-z]+)>")
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def read_tokenizer(checkpoint: Checkpoint) -> PieceTokenizer | None:
    """The tokenizer of a checkpoint; None where it has no `tokenizer.model`."""
    return tokenizer(checkpoint.folder)


def tokenizer(folder: Path) -> PieceTokenizer | None:
    """The tokenizer of a folder's `tokenizer.model` and the special tokens that its JSON files declare.

    As the families' own code does, it cuts a text at these tokens and encodes what lies between them piece by piece.

    Raises:
        BrokenCheckpoint: a file is damaged, or a token has an id that the files contradict.
    """
    path = folder / "tokenizer.model"
    if not path.is_file():
        return None
    model = read_pieces(path)
    size = int(model.get_piece_size())
    ids = {model.id_to_piece(number): number for number in range(size) if model.is_control(number)}
    for text, number in _declared(folder).items():
        own = int(model.piece_to_id(text))
        if model.id_to_piece(own) == text:
            ids[text] = own
        elif number is not None and number >= size:
            ids[text] = number
        elif number is not None:
            raise BrokenCheckpoint(
                f"{folder} calls token {number} {text}, and tokenizer.model calls it {model.id_to_piece(number)}: "
                "download the model again."
            )
    tags = _tags(model)
    ids |= {text: int(model.piece_to_id(text)) for text in tags if _HEADER.fullmatch(text)}
    return PieceTokenizer(model, ids, roles=sorted(ids, key=len, reverse=True), headers=False, spoken=ids, guarded=tags)


def _tags(model: Any) -> frozenset[str]:
    """User-defined pieces such as `<eoh>`, which SentencePiece finds in a text, and no person must be able to type.

    Such pieces have a score of 0, as no other piece of several letters has; others, such as runs of spaces, are text.
    """
    scored = (n for n in range(model.get_piece_size()) if not model.get_score(n))
    texts = (model.id_to_piece(n) for n in scored if not model.is_control(n) and not model.is_byte(n))
    return frozenset(text for text in texts if len(text) > 2 and (text[0], text[-1]) in {("<", ">"), ("[", "]")})


def _declared(folder: Path) -> dict[str, int | None]:
    """The special tokens of the JSON files, with their ids where these say them."""
    settings, legacy = (_optional(folder / f"{name}.json") for name in ("tokenizer_config", "special_tokens_map"))
    found: dict[str, int | None] = {}
    for source in (settings, legacy):
        more = source.get("additional_special_tokens") or ()
        for value in (*(source.get(key) for key in _NAMED), *(more if isinstance(more, list) else ())):
            text = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(text, str) and text:
                found.setdefault(text, None)
    for text, number in _optional(folder / "added_tokens.json").items():
        found[text] = number if isinstance(number, int) else None
    decoder = settings.get("added_tokens_decoder")
    for number, entry in decoder.items() if isinstance(decoder, Mapping) else ():
        if isinstance(entry, Mapping) and entry.get("content") and str(number).isdecimal():
            found[str(entry["content"])] = int(number)
    return found


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
