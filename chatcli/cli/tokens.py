"""`chatcli tokens`: how many tokens a text has, for a model; no torch is loaded for it."""

from __future__ import annotations

from typing import Annotated

import typer

from chatcli import guide
from chatcli.cli import options
from chatcli.cli.ask import read_text
from chatcli.environment import real_environment
from chatcli.errors import BrokenCheckpoint


def tokens(
    text: Annotated[str | None, typer.Argument(help="The text; default: standard input.")] = None,
    model: options.Model = "",
    chat: Annotated[bool, typer.Option("--chat", help="Count the prompt that the text becomes in a chat.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the token ids instead of their number.")] = False,
) -> int:
    """Count the tokens of a text, as the model sees it."""
    from chatcli.adapters.format import chat_format
    from chatcli.cli.opening import find_checkpoint
    from chatcli.config import load
    from chatcli.conversation import Conversation, Message
    from chatcli.models.vocabulary import tokenizer as read_tokenizer

    environment = real_environment()
    counted = read_text(environment) if text is None or text == "-" else text
    config = load(environment, options.said(model=model))
    name = str(config.value("model") or guide.NAME)
    checkpoint = find_checkpoint(name, config, environment, lambda progress: None)
    tokenizer = read_tokenizer(checkpoint)
    if tokenizer is None:
        raise BrokenCheckpoint(f"{name} has no tokenizer.json, so its tokens cannot be counted without loading it.")
    if chat:
        prompt = Conversation((Message("user", counted),)).with_system(str(config.value("system") or ""))
        encoded = chat_format(checkpoint, tokenizer).encode(prompt)
    else:
        encoded = tokenizer.encode(counted, add_special_tokens=False).ids
    print(" ".join(map(str, encoded)) if ids else len(encoded))
    return 0
