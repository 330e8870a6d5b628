"""Options that several commands share, and what they mean together.

It knows flags and the configuration; it opens no model.
"""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", "-m", help="Hub id, alias or folder; default: the configured model.")]
Revision = Annotated[str, typer.Option(help="Commit, branch or tag of the model; default: main.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Ask to run the model's own Python code, at one commit.")
]
System = Annotated[str | None, typer.Option("--system", "-s", help='System message to answer under; "" for none.')]
Temperature = Annotated[float | None, typer.Option(help="Randomness; 0 always takes the likeliest token.")]
TopP = Annotated[float | None, typer.Option(help="Sample among the likeliest tokens of this total probability.")]
TopK = Annotated[int | None, typer.Option(help="Sample among this many likeliest tokens; 0 is all.")]
MinP = Annotated[float | None, typer.Option(help="Leave out tokens less likely than this share of the likeliest.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1 makes repeated tokens less likely.")]
Seed = Annotated[int | None, typer.Option(help="Repeat the same random choices.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer, in tokens; default: what the context holds.")]
Stop = Annotated[list[str] | None, typer.Option(help="Text that ends the answer; may be given several times.")]
Overflow = Annotated[
    str | None, typer.Option(help="When the context is full: drop-oldest exchanges (and say so), or stop.")
]
Continue = Annotated[
    bool,
    typer.Option(
        "--continue",
        "-c",
        help="Go on with the latest conversation, or with the one whose id follows: --continue @2, --continue=3f8a. "
        "It keeps its model unless another is named.",
    ),
]
ConversationId = Annotated[
    str, typer.Option("--id", metavar="ID", help="Go on with the conversation of this id, as --continue ID does.")
]
NoHistory = Annotated[bool, typer.Option("--no-history", help="Keep nothing of this: no question, no answer.")]

Think = Annotated[
    bool | None, typer.Option("--think/--no-think", help="Let a model that can think do so, or not; default: its way.")
]
Effort = Annotated[str | None, typer.Option(help="How much a model that can tell thinks: low, medium or high.")]
Plain = Annotated[
    bool | None, typer.Option("--plain/--no-plain", help="Print text as it comes instead of rendering Markdown.")
]


def said(**flags: object) -> dict[str, object]:
    """The flags that were given, by the names that the configuration knows them under."""
    return {name: value for name, value in flags.items() if value not in (None, []) and (value or name != "model")}
