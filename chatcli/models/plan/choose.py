"""The choice: the first way, from the least loss to the greatest, in which the model fits.

    1. as it is stored, on one device, else on several of a kind       2. so in int8, then in int4
    3. what the GPUs cannot hold waits in main memory                  4. on the CPU alone, at last in int8 or int4
    5. what memory cannot hold stays on the disk

Numbers in, a plan out: it knows no machine and no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from chatcli.errors import OutOfMemory, UsageError
from chatcli.load_request import NOTHING_SAID, LoadRequest, Quantization
from chatcli.models.plan.places import listed, usable
from chatcli.models.plan.precisions import Subject
from chatcli.models.plan.spread import over, over_disk, over_main_memory
from chatcli.models.plan.values import Device, LoadPlan, Option, amount
from chatcli.models.plan.weighing import weigh
from chatcli.models.quantized import FORMATS, quant_method
from chatcli.models.weights import Tensor

_LADDER: tuple[Quantization, ...] = ("none", "int8", "int4", "fp8")
"""From the least loss to the greatest; fp8 only where it is asked for."""


@dataclass(frozen=True, slots=True)
class Survey:
    """All that there is to say of a model on a machine.

    `precisions` are those it can be run in, each with the names of the devices that hold it alone. Where there is no
    `choice`, `refusal` tells why.
    """

    parameters: int
    places: tuple[Device, ...]
    precisions: tuple[tuple[Option, tuple[str, ...]], ...]
    choice: LoadPlan | None
    refusal: str


def plan(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    devices: Sequence[Device],
    request: LoadRequest = NOTHING_SAID,
    *,
    stored_bytes: int = 0,
) -> LoadPlan:
    """The way to run a model that loses the least, of those that fit with `request.context` tokens of talk (or 4096).

    `stored_bytes` is the size of `.bin` files, whose tensors are unknown.

    Raises:
        OutOfMemory: it fits in no way, or with `fit` "strict" not as it is; with the numbers and what to do.
        UsageError: `request` names what this machine or this model has not.
    """
    places = usable(devices, request)
    subject = _subject(config, tensors, stored_bytes, request)
    chosen = next(_ways(subject, places), None)
    if chosen is None:
        raise OutOfMemory(_refusal(subject, places))
    return chosen


def survey(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    devices: Sequence[Device],
    request: LoadRequest = NOTHING_SAID,
    *,
    stored_bytes: int = 0,
) -> Survey:
    """What `plan` decides, with all that it decides from. Raises UsageError as it does."""
    places = usable(devices, request)
    subject = _subject(config, tensors, stored_bytes, request)
    chosen = next(_ways(subject, places), None)
    refusal = "" if chosen else _refusal(subject, places)
    return Survey(subject.model.parameters, places, _precisions(subject, places), chosen, refusal)


def _subject(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], stored_bytes: int, request: LoadRequest
) -> Subject:
    method = quant_method(config)
    if method and request.quantization not in (None, "none"):
        title = FORMATS[method].title if method in FORMATS else method
        raise UsageError(
            f"The model is quantised already ({title}), so --quant {request.quantization} would lose twice: "
            "leave it out, or use the original checkpoint."
        )
    return Subject(weigh(config, tensors, stored_bytes), request)


def _precisions(subject: Subject, places: Sequence[Device]) -> tuple[tuple[Option, tuple[str, ...]], ...]:
    """All that there are, whatever was asked for."""
    subject = replace(subject, request=replace(subject.request, fit="auto", quantization=None, dtype=""))
    found: dict[tuple[Quantization, str], tuple[Option, list[str]]] = {}
    for device in places:
        own = subject.dtypes(device)[-1]
        full = (own,) if quant_method(subject.config) else dict.fromkeys(("float32", own))
        every = [subject.option(device, dtype) for dtype in full]
        for option in (*every, *subject.options(device, "int8"), *subject.options(device, "int4")):
            # On the next kind of device it needs a little more or less; the numbers shown are the first one's.
            _, names = found.setdefault((option.quantization, option.precision), (option, []))
            names += [device.name] if option.need_bytes <= device.free_bytes else []
    ordered = sorted(found.values(), key=lambda row: (_LADDER.index(row[0].quantization), -row[0].weights_bytes))
    return tuple((option, tuple(names)) for option, names in ordered)


def _ways(model: Subject, places: Sequence[Device]) -> Iterator[LoadPlan]:
    """The ways in which the model fits, the least loss first."""
    cpus = [d for d in places if d.kind == "cpu"]
    groups = [[d for d in places if d.kind == kind] for kind in dict.fromkeys(d.kind for d in places)]
    gpus = [d for d in places if d.kind in ("cuda", "xpu")]
    first = groups if not gpus else [group for group in groups if group[0].kind != "cpu"]
    for quantization in _LADDER:
        for group in first:
            yield from _in_one_kind(model, group, quantization)
    same = [d for d in gpus if d.kind == gpus[0].kind]
    if same and model.may_be_moved:
        option = model.options(same[0], "none")[-1]
        if memory := over_main_memory(option, same, cpus):
            yield _moved(model, option, same[0], memory)
    may_leave = model.request.fit == "auto" and model.request.device in ("", "auto")
    if gpus and may_leave:
        for quantization in _LADDER:
            for found in _in_one_kind(model, cpus, quantization):
                yield _instead_of(gpus, found)
    if model.may_be_moved:
        limit = model.request.max_memory.get("disk")
        for computing in (same, cpus if may_leave or not gpus else []):
            if not computing:
                continue
            option = model.options(computing[0], "none")[-1]
            if memory := over_disk(option, computing, cpus, limit):
                yield _moved(model, option, computing[0], memory)


def _in_one_kind(model: Subject, group: Sequence[Device], quantization: Quantization) -> Iterator[LoadPlan]:
    """On the roomiest device of a kind, else over all of that kind."""
    if not group:
        return
    roomiest = max(group, key=lambda d: d.free_bytes)
    every = model.options(roomiest, quantization)
    for option in every:
        if option.need_bytes <= roomiest.free_bytes:
            yield _made(model, option, roomiest, "single", {})
    for option in every:
        if memory := over(option, group):
            yield _made(model, option, group[0], "auto", memory)


def _made(
    model: Subject,
    option: Option,
    device: Device,
    placement: Literal["single", "auto"],
    memory: Mapping[int | str, int],
) -> LoadPlan:
    """The plan without anything moved out of the way."""
    full = model.options(device, "none")[:1] or (option,)
    less = full[0].need_bytes > option.need_bytes and option != full[0]
    where = device.name if placement == "single" else f"{len(memory)} GPUs"
    if less:
        reason = (
            f"In {full[0].precision} it needs {amount(full[0].need_bytes)}, so it runs in {option.precision} "
            f"({amount(option.need_bytes)}) on {where}."
        )
    elif placement == "auto":
        reason = f"The model does not fit on one GPU, so it is spread over {len(memory)}."
    else:
        asked = model.request.dtype or model.request.quantization
        how = "as it was asked for" if asked else "as it is stored" if option.packed else "in full precision"
        reason = f"It fits there {how}."
    told = (reason,) if less or placement == "auto" else ()
    return _plan(option, device, placement, memory, (*_about_dtype(model, option, device), *told), reason)


def _instead_of(gpus: Sequence[Device], found: LoadPlan) -> LoadPlan:
    """The same plan, on the CPU, with the reason why no GPU computes it."""
    free = listed([f"{d.name} has {amount(d.free_bytes)} free" for d in gpus])
    reason = f"{free}, too little to help, so the CPU runs it in {found.precision}, slowly."
    return replace(found, reason=reason, notes=(reason,))


def _moved(model: Subject, option: Option, device: Device, memory: Mapping[int | str, int]) -> LoadPlan:
    """The plan with parts in main memory or on the disk."""
    beside = memory.get("disk", 0)
    if beside:
        reason = f"About {amount(beside)} of the model stay on the disk, which makes answers very slow."
    else:
        held = sum(size - option.layer_bytes for place, size in memory.items() if place != "cpu")
        missing = max(option.weights_bytes - held, 0)
        reason = f"About {amount(missing)} of the model stay in main memory, which makes answers slow."
    return _plan(option, device, "auto", memory, (*_about_dtype(model, option, device), reason), reason)


def _plan(
    option: Option,
    device: Device,
    placement: Literal["single", "auto"],
    memory: Mapping[int | str, int],
    notes: tuple[str, ...],
    reason: str,
) -> LoadPlan:
    first = next(iter(memory), device.index)
    return LoadPlan(
        option.dtype,
        f"{device.kind}:{first}" if device.kind in ("cuda", "xpu") else device.name,
        placement,
        option.weights_bytes,
        option.kv_bytes_per_token,
        memory,
        notes,
        option.quantization,
        option.context,
        option.cache_bytes,
        option.work_bytes,
        option.packed,
        reason,
    )


def _about_dtype(model: Subject, option: Option, device: Device) -> tuple[str, ...]:
    if model.request.dtype or device.bf16 or model.stored != "bfloat16" or option.dtype != "float16":
        return ()
    return (f"{device.name} does not compute bfloat16 at speed, so the model runs in float16.",)


def _refusal(model: Subject, places: Sequence[Device]) -> str:
    """Why nothing fits, with the numbers."""
    first = places[0]
    every = [option for q in model.quantizations(first.kind) for option in model.options(first, q)]
    largest, smallest = max(every, key=lambda o: o.need_bytes), min(every, key=lambda o: o.need_bytes)
    needs = f"{amount(largest.need_bytes)} of memory in {largest.precision}"
    if smallest.precision != largest.precision:
        needs += f" and {amount(smallest.need_bytes)} in {smallest.precision}"
    free = listed([f"{d.name} has {amount(d.free_bytes)} free" for d in places])
    if model.request.fit == "strict":
        loose = next(_ways(replace(model, request=replace(model.request, fit="auto")), places), None)
        if loose:
            instead = f"{loose.precision} on {loose.device}"
            return f"The model needs {needs}, but {free}: --fit auto would run it in {instead}."
    what = "raise --max-memory" if model.request.max_memory else "close other programs"
    return f"The model needs {needs}, but {free}: {what} or choose a smaller model."
