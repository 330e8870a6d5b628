"""`chatcli bench`: how fast a model is on this machine, and how near to what its memory allows.

It prints what `runtime.bench` measures; it knows no tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.options import Talk, said, talking
from chatcli.environment import real_environment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from chatcli.generation import EngineFacts
    from chatcli.runtime.bench import Measured

TALK: frozenset[str] = frozenset(
    ("model", "system", "resume", "conversation", "no_history", "plain", "overflow", "stop", "server")
)
TALK |= {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_tokens", "think"}
TALK |= {"reasoning_effort", "trust_remote_code", "keep_alive"}
"""Shared options that a measurement does not take: it always decodes greedily, and keeps nothing."""


@talking(without=TALK)
def bench(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Hub id, alias or folder; default: as set.")] = "",
    prompt: Annotated[int, typer.Option(metavar="TOKENS", help="Length of the prompt.")] = 512,
    tokens: Annotated[int, typer.Option(metavar="TOKENS", help="Length of the answer.")] = 64,
    rounds: Annotated[int, typer.Option(help="How often each way is measured.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    *,
    talk: Talk,
) -> int:
    """Measure a model on this machine, beside plain transformers `generate()`.

    Both take turns in one run; medians are shown, and ratios of the same round.
    """
    from chatcli import guide
    from chatcli.cli.opening import full_name, open_engine
    from chatcli.config import load
    from chatcli.engines.local import LocalEngine
    from chatcli.render.columns import columns
    from chatcli.render.progress import shown_while

    if prompt < 1 or tokens < 2 or rounds < 1:
        raise UsageError("A measurement needs a prompt of 1 token, an answer of 2 tokens and 1 round at least.")
    environment = real_environment()
    config = load(environment, {**talk.flags, **said(model=model)})
    name = full_name(str(config.value("model") or guide.NAME), config)
    begun = environment.monotonic()
    request = config.load_request(revision=talk.revision, subfolder=talk.subfolder)
    engine = shown_while(open_engine(name, config, environment, request, here=True).wait(), environment)
    loading = environment.monotonic() - begun
    if not isinstance(engine, LocalEngine):
        raise UsageError(f"{name} does not run in this process, so there is nothing to measure.")
    if prompt + tokens > engine.facts.context:
        raise UsageError(
            f"{name} has a context of {engine.facts.context} tokens: --prompt and --tokens together must be less."
        )
    measured = shown_while(engine.measure(prompt, tokens, rounds), environment)
    from chatcli.runtime.bench import machine

    if as_json:
        facts = {"model": name, "device": engine.facts.device, "precision": engine.facts.precision}
        found = {**facts, "loading": loading, **asdict(measured), "share": measured.share, "machine": machine()}
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    for line in columns([*_about(engine.facts, loading, measured, machine())]):
        print(line)
    print()
    for line in columns([*_table(measured)]):
        print(line)
    return 0


def _about(
    facts: EngineFacts, loading: float, measured: Measured, machine: dict[str, str | int]
) -> Iterator[tuple[str, str]]:
    yield "model", f"{facts.model}, {facts.precision} on {facts.device}, loaded in {loading:.1f} s"
    versions = f"torch {machine['torch']}, transformers {machine['transformers']}"
    yield "machine", f"{machine['processor']}, {machine['threads']} threads, {versions}"
    read = f", {measured.bytes_per_token / 1e6:,.0f} MB read for each token" if measured.bytes_per_token else ""
    yield "memory", f"{measured.bandwidth / 1e9:.1f} GB/s{read}"
    lengths = f"a prompt of {measured.prompt} tokens, an answer of {measured.tokens}"
    yield "measured", f"{lengths}; medians of {measured.rounds} rounds"


def _table(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Rows of the result; without `generate()` its columns are missing."""
    ours, plain, ratios = measured.ours, measured.plain, measured.ratios
    rows = [("", "chatcli"), ("first token", f"{ours.first_token:.3f} s")]
    rows += [("prompt", f"{ours.prefill:,.0f} tokens/s"), ("answer", f"{ours.decode:.1f} tokens/s")]
    beside: list[tuple[str, ...]] = []
    if plain and ratios:
        beside = [("generate()", "times as fast"), (f"{plain.first_token:.3f} s", f"{ratios.first_token:.2f}")]
        beside.append((f"{plain.prefill:,.0f} tokens/s", f"{ratios.prefill:.2f}"))
        beside.append((f"{plain.decode:.1f} tokens/s", f"{ratios.decode:.2f}"))
    if measured.share:
        rows.append(("share of the memory's rate", f"{measured.share:.0%}"))
        if plain:
            beside.append((f"{plain.decode * measured.bytes_per_token / measured.bandwidth:.0%}", ""))
    for row, more in zip_longest(rows, beside, fillvalue=()):
        yield (*row, *more)
