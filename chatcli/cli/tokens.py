"""`chatcli tokens`: how many tokens a text has, for a model; torch is loaded only where there is no tokenizer.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatcli import guide
from chatcli.cli import options
from chatcli.cli.question import read_input
from chatcli.environment import real_environment

if TYPE_CHECKING:
    from chatcli.models.checkpoint import Checkpoint
    from chatcli.models.tokenizer import Tokenizer


def tokens(
    text: Annotated[str | None, typer.Argument(help="The text; default: standard input.")] = None,
    model: options.Model = "",
    chat: Annotated[bool, typer.Option("--chat", help="Count the prompt that the text becomes in a chat.")] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the token ids instead of their number.")] = False,
    revision: options.Revision = "",
    trust_remote_code: options.TrustRemoteCode = False,
) -> int:
    """Count the tokens of a text for a model.

    Alone, the text is taken as it stands, control tokens too; with --chat it is what a person says.
    """
    from chatcli.adapters.encode import encode_text
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
    if trust_remote_code:
        from chatcli.cli.consent import agree_on_code

        agree_on_code(name, config, environment, revision)
    progress = ProgressLine(environment)
    checkpoint = find_checkpoint(name, config, environment, progress.show, revision=revision, to_chat=chat)
    tokenizer = _tokenizer(checkpoint)
    progress.clear()
    if chat:
        prompt = Conversation((Message("user", counted),)).with_system(str(config.value("system") or ""))
        table = load_table(environment.config_folder)
        encoded = chat_format(checkpoint, tokenizer, table).encode(prompt)
    else:
        encoded = encode_text(tokenizer, counted)
    print(" ".join(map(str, encoded)) if ids else len(encoded))
    return 0


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The checkpoint's tokenizer.json, or what transformers or a port makes of its other files."""
    from chatcli.models.vocabulary import tokenizer

    if fast := tokenizer(checkpoint):
        return fast
    from chatcli.runtime.load import load_tokenizer

    return load_tokenizer(checkpoint)
