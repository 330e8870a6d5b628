"""`chatcli models plan`: how a model would be run here, and why; nothing is loaded and no weight is downloaded.

It puts the files' headers, the devices and what was said before the same function that `run` asks.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatcli.cli import options
from chatcli.environment import Environment, real_environment
from chatcli.errors import BrokenCheckpoint, OutOfMemory

if TYPE_CHECKING:
    from chatcli.config import Config
    from chatcli.load_request import LoadRequest
    from chatcli.models.checkpoint import Checkpoint
    from chatcli.models.headers import Headers
    from chatcli.models.plan import LoadPlan, Survey


def models_plan(
    model: Annotated[str, typer.Argument(metavar="NAME", help="Hub id, alias, folder, guide; it need not be here.")],
    context: options.Context = None,
    dtype: options.Dtype = None,
    quant: options.Quant = None,
    fit: options.Fit = None,
    device: options.Device = None,
    devices: options.Devices = None,
    max_memory: options.MaxMemory = None,
    revision: options.Revision = "",
    subfolder: options.Subfolder = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Show what a model needs in each precision, what this machine has, and how `run` would run it.

    Of a model that is not here only some kilobytes are fetched. Exit code 4 says that it cannot be run here.
    """
    from chatcli.config import load
    from chatcli.models import machine
    from chatcli.models.plan import survey

    environment = real_environment()
    said = options.said(
        context=context, dtype=dtype, quant=quant, fit=fit, device=device, devices=devices, max_memory=max_memory
    )
    config = load(environment, said)
    request = config.load_request(revision=revision, subfolder=subfolder)
    found = _headers(model, config, environment, request)
    here = machine.devices(environment.variables)
    told = survey(found.config, found.tensors, here, request, stored_bytes=found.stored_bytes)
    if as_json:
        print(json.dumps(_facts(found, told), ensure_ascii=False, indent=2))
        return 0 if told.choice else OutOfMemory.exit_code
    width = environment.terminal_size().columns if environment.stdout_is_terminal else 10**6
    for line in _page(found, told, width):
        print(line)
    if told.refusal:
        raise OutOfMemory(told.refusal)
    return 0


def _headers(name: str, config: Config, environment: Environment, request: LoadRequest) -> Headers:
    """What the plan needs to know of the model, from the disk if its weights are there, else from the Hub."""
    from chatcli.cli.opening import named_parts
    from chatcli.models.cache import is_complete
    from chatcli.models.headers import headers_on_disk, headers_on_hub
    from chatcli.models.hub import asking_for, required_hub_name
    from chatcli.models.naming import inside
    from chatcli.render.progress import ProgressLine

    variables = environment.variables
    if checkpoint := _on_disk(name, config, environment, request):
        try:
            return headers_on_disk(checkpoint)
        except BrokenCheckpoint:
            if not checkpoint.revision or is_complete(checkpoint.folder):
                raise
    meant, _ = named_parts(name, config)
    line = ProgressLine(environment)
    try:
        with asking_for(meant, variables, offline=environment.offline, known=tuple(config.aliases)) as cache:
            wanted = required_hub_name(inside(meant, request.subfolder))
            return headers_on_hub(wanted, request.revision or "main", cache, variables, line.show)
    finally:
        line.clear()


def _on_disk(name: str, config: Config, environment: Environment, request: LoadRequest) -> Checkpoint | None:
    """What is here of the model, at the revision and in the folder that are wanted.

    Raises:
        BrokenCheckpoint: it is a folder, and no checkpoint.
    """
    from chatcli.cli.opening import full_name, local_checkpoint
    from chatcli.models.cache import begun, cache_folder
    from chatcli.models.checkpoint import open_checkpoint

    found, meant = local_checkpoint(name, config, environment), full_name(name, config)
    if not found and Path(meant).is_dir():
        return open_checkpoint(Path(meant), meant)
    if found and found.revision and request.revision:
        folder = begun(cache_folder(environment.variables), meant, request.revision)
        found = open_checkpoint(folder, meant, folder.name) if folder else None
    if found and request.subfolder:
        found = open_checkpoint(found.folder / request.subfolder, found.name, found.revision)
    return found


def _page(found: Headers, told: Survey, width: int) -> Iterator[str]:
    """The same as tables and sentences; where the columns do not fit beside each other, a paragraph each."""
    from chatcli.models.plan import amount
    from chatcli.render.columns import columns

    yield from _wrapped(
        f"{found.name}: {_count(told.parameters)} parameters{'' if found.on_disk else ', not downloaded'}.", width
    )
    yield ""
    yield from _table(
        ("precision", "weights", "talk", "work", "needs", "fits on"),
        [
            (
                option.precision,
                *map(amount, (option.weights_bytes, option.cache_bytes, option.work_bytes, option.need_bytes)),
                ", ".join(names) or "-",
            )
            for option, names in told.precisions
        ],
        width,
    )
    yield ""
    yield from columns([("device", "free"), *((d.name, amount(d.free_bytes)) for d in told.places)])
    yield ""
    yield from _wrapped(
        f"Talk is the cache of {told.precisions[0][0].context} tokens; a tenth of the sum is kept free.", width
    )
    if chosen := told.choice:
        yield from _wrapped(f"Choice: {chosen.precision} on {_place(chosen)}. {chosen.reason}", width)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    from chatcli.render.columns import columns

    widest = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    if sum(widest) + 2 * (len(widest) - 1) <= width:
        yield from columns(
            [header, *([row[0], *(c.rjust(w) for c, w in _inner(row, widest)), row[-1]] for row in rows)]
        )
        return
    for row in rows:
        yield row[0]
        yield from columns([(f"  {name}", cell) for name, cell in zip(header[1:], row[1:], strict=True)])


def _inner(row: Sequence[str], widest: Sequence[int]) -> Iterator[tuple[str, int]]:
    """The cells between the first and the last, each with the width of its column."""
    return zip(row[1:-1], widest[1:-1], strict=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 10), break_long_words=False, break_on_hyphens=False)


def _count(parameters: int) -> str:
    size, unit = next(
        (step for step in ((1e9, "billion"), (1e6, "million")) if parameters >= step[0]), (1e3, "thousand")
    )
    return f"{parameters / size:.1f} {unit}"


def _place(chosen: LoadPlan) -> str:
    """Where the weights go, for people: "cuda:0", or "cuda:0, cuda:1 and cpu"."""
    from chatcli.models.plan.places import listed

    kind = chosen.device.partition(":")[0]
    names = [f"{kind}:{place}" if isinstance(place, int) else place for place in chosen.max_memory]
    return listed([name if name != "disk" else "the disk" for name in names] or [chosen.device])


def _facts(found: Headers, told: Survey) -> dict[str, Any]:
    """The same for programs; sizes are in bytes."""
    from dataclasses import asdict

    from chatcli.models.quantized import quant_method

    chosen = told.choice
    return {
        "model": found.name,
        "revision": found.revision,
        "on_disk": found.on_disk,
        "parameters": told.parameters,
        "packed": quant_method(found.config) or None,
        "context": told.precisions[0][0].context,
        "precisions": [
            {"precision": option.precision, **asdict(option), "need_bytes": option.need_bytes, "fits_on": list(names)}
            for option, names in told.precisions
        ],
        "devices": [{"name": d.name, "free_bytes": d.free_bytes, "bfloat16": d.bf16} for d in told.places],
        "choice": {"precision": chosen.precision, **asdict(chosen), "peak_bytes": chosen.peak_bytes}
        if chosen
        else None,
        "refusal": told.refusal or None,
    }
