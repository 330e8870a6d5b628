"""`chatcli tokens`: how many tokens a text has, for a model; no torch is loaded for it."""

from __future__ import annotations

from typing import Annotated

import typer

from chatcli import guide
from chatcli.cli import options
from chatcli.cli.question import read_input
from chatcli.environment import real_environment


def tokens(
    text: Annotated[str | None, typer.Argument(help="The text; default: standard input.")] = None,
    model: options.Model = "",
    chat: Annotated[bool, typer.Option("--chat", help="Count the prompt that the text becomes in a chat.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the token ids instead of their number.")] = False,
) -> int:
    """Count the tokens of a text for a model.

    Alone, the text is taken as it stands, control tokens too; with --chat it is what a person says.
    """
    from chatcli.adapters.encode import encode_text, fast_tokenizer
    from chatcli.adapters.format import chat_format
    from chatcli.adapters.table import load_table
    from chatcli.cli.opening import find_checkpoint
    from chatcli.config import load
    from chatcli.conversation import Conversation, Message
    from chatcli.render.progress import ProgressLine

    environment = real_environment()
    counted = read_input(environment) if text is None or text == "-" else text
    config = load(environment, options.said(model=model))
    name = str(config.value("model") or guide.NAME)
    progress = ProgressLine(environment)
    checkpoint = find_checkpoint(name, config, environment, progress.show, to_chat=chat)
    progress.clear()
    if chat:
        prompt = Conversation((Message("user", counted),)).with_system(str(config.value("system") or ""))
        table = load_table(environment.config_folder)
        encoded = chat_format(checkpoint, fast_tokenizer(checkpoint), table).encode(prompt)
    else:
        encoded = encode_text(fast_tokenizer(checkpoint), counted)
    print(" ".join(map(str, encoded)) if ids else len(encoded))
    return 0
