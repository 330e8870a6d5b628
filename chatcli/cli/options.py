"""Options that several commands share, and what they mean together.

It knows flags and the configuration; it opens no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

Model = Annotated[
    str, typer.Option("--model", "-m", help="Hub id, alias, folder, GGUF file; default: the configured one.")
]
AtServer = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL|NAME", help="Let a server answer that speaks the OpenAI API; the model is one of its."
    ),
]
Revision = Annotated[str, typer.Option(help="Commit, branch or tag of the model; default: main.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Ask to run the model's own Python code, at one commit.")
]
System = Annotated[
    str | None,
    typer.Option("--system", "-s", help='System message to answer under; "" for the model\'s own, if it has one.'),
]
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
Subfolder = Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the repository that holds the model.")]
Row = Annotated[
    str | None, typer.Option("--adapter", metavar="ROW", help="Talk to it as this row of chatcli adapters says.")
]
Dtype = Annotated[
    str | None, typer.Option(help="Precision of the weights: auto, float32, bfloat16 or float16; default: auto.")
]
Quant = Annotated[
    str | None, typer.Option(help="Weights in fewer bits: auto, none, int8, int4 or fp8; default: where it must be.")
]
Fit = Annotated[
    str | None, typer.Option(help="Too large a model: auto finds a way and says which; strict refuses, with numbers.")
]
Context = Annotated[
    int | None, typer.Option(metavar="TOKENS", help="How long a talk must have room; default: 4096 tokens.")
]
Device = Annotated[str | None, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, xpu, mps.")]
Devices = Annotated[str | None, typer.Option(metavar="0,1", help="GPUs that may be used; default: all.")]
MaxMemory = Annotated[
    str | None, typer.Option(metavar="0=20GiB,cpu=64GiB", help="Most memory to take, for each place.")
]
LoraAdapter = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="NAME[=SCALE]", help="LoRA adapter to put on; may be given several times."),
]

DraftModel = Annotated[
    str | None,
    typer.Option("--draft", metavar="NAME", help="Smaller model of the same family that guesses ahead; same answers."),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Build faster steps with this machine's compiler, or not; default: on a CPU, behind the first answer.",
    ),
]
KeepAlive = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long the model stays in memory after its last answer: 5m, 1h, 0, forever."),
]


@dataclass(frozen=True, slots=True)
class Talk:
    """What the shared options say: `flags` by the names of the configuration, the rest is of one call alone.

    `resume` is a conversation to go on with, `revision` and `subfolder` say which of the model's files; all may be
    empty. With `trust` the person wants to be asked about the model's own code.
    """

    flags: Mapping[str, object]
    resume: str = ""
    revision: str = ""
    subfolder: str = ""
    trust: bool = False


_SHARED: Mapping[str, tuple[Any, object]] = {
    "model": (Model, ""),
    "server": (AtServer, None),
    "system": (System, None),
    "resume": (Continue, False),
    "conversation": (ConversationId, ""),
    "no_history": (NoHistory, False),
    "temperature": (Temperature, None),
    "top_p": (TopP, None),
    "top_k": (TopK, None),
    "min_p": (MinP, None),
    "repetition_penalty": (RepetitionPenalty, None),
    "seed": (Seed, None),
    "max_tokens": (MaxTokens, None),
    "stop": (Stop, None),
    "overflow": (Overflow, None),
    "think": (Think, None),
    "reasoning_effort": (Effort, None),
    "plain": (Plain, None),
    "adapter": (Row, None),
    "dtype": (Dtype, None),
    "quant": (Quant, None),
    "fit": (Fit, None),
    "context": (Context, None),
    "device": (Device, None),
    "devices": (Devices, None),
    "max_memory": (MaxMemory, None),
    "lora": (LoraAdapter, None),
    "draft": (DraftModel, None),
    "compile": (Compile, None),
    "keep_alive": (KeepAlive, None),
    "revision": (Revision, ""),
    "subfolder": (Subfolder, ""),
    "trust_remote_code": (TrustRemoteCode, False),
}
"""Every shared option with its default, in the order of the help pages."""


def talking(*, without: Collection[str] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the shared options, but for those `without`; it gets them as its keyword `talk`.

    Typer reads a command's options off its signature, so the wrapper has one made of both.
    """

    def given(command: Callable[..., int]) -> Callable[..., int]:
        own = [each for each in signature(command, eval_str=True).parameters.values() if each.name != "talk"]
        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in _SHARED.items()
            if name not in without
        ]
        everything = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own] + shared

        def wrapped(**options: Any) -> int:
            return command(**{each.name: options.pop(each.name) for each in own}, talk=_talk(**options))

        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__signature__ = Signature(everything)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {each.name: each.annotation for each in everything}
        return wrapped

    return given


def _talk(
    *,
    resume: bool = False,
    conversation: str = "",
    no_history: bool = False,
    revision: str = "",
    subfolder: str = "",
    trust_remote_code: bool = False,
    **flags: object,
) -> Talk:
    picked = conversation or ("@1" if resume else "")
    return Talk(said(**flags, history=False if no_history else None), picked, revision, subfolder, trust_remote_code)


def said(**flags: object) -> dict[str, object]:
    """The flags that were given, by the names that the configuration knows them under."""
    return {name: value for name, value in flags.items() if value not in (None, []) and (value or name != "model")}
