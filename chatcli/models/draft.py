"""A smaller model that guesses for a larger one: whether it can, which its tokens decide. It loads no weights."""

from __future__ import annotations

from pathlib import Path

from chatcli.errors import UsageError
from chatcli.models.checkpoint import Checkpoint, open_checkpoint, text_config
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.vocabulary import tokenizer as read_tokenizer


def open_draft(path: Path, checkpoint: Checkpoint, tokens: Tokenizer) -> Checkpoint:
    """The checkpoint at `path`, to guess for `checkpoint`, whose tokenizer is `tokens`.

    Raises:
        UsageError: it has other tokens.
    """
    draft = open_checkpoint(path)
    size = max(int(text_config(each.config).get("vocab_size") or 0) for each in (draft, checkpoint))
    tokenizer = read_tokenizer(draft)
    if tokenizer is None or any(tokenizer.id_to_token(n) != tokens.id_to_token(n) for n in range(size)):
        raise UsageError(
            f"{draft.name} cannot guess for {checkpoint.name}, whose tokens differ: take a smaller model of its family."
        )
    return draft
