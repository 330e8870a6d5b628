"""Carry out a load plan: from a checkpoint's files to a model that computes.

It runs no code from a checkpoint that nobody agreed to and unpickles nothing but tensors; it knows no prompt
and no token. Where the weights go is `placement`'s, what failures mean is `explain`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers.utils import logging

from chatcli.errors import BrokenCheckpoint
from chatcli.generation import Progress
from chatcli.models.checkpoint import Checkpoint, makes_vectors
from chatcli.models.plan import LoadPlan
from chatcli.models.quantized import quant_method
from chatcli.models.remote_code import require_agreement
from chatcli.models.weights import Weights
from chatcli.runtime import ports
from chatcli.runtime.classes import auto_class
from chatcli.runtime.explain import UNFIT, explained
from chatcli.runtime.lora import put_on
from chatcli.runtime.placement import placed
from chatcli.runtime.quantize import quantized, readable, told
from chatcli.runtime.remote_code import code_needed
from chatcli.runtime.unfilled import Unfilled
from chatcli.runtime.upcast import upcast_prompts

Report = Callable[[Progress], None]


def load_model(checkpoint: Checkpoint, weights: Weights, plan: LoadPlan, report: Report) -> Any:
    """The language model of `checkpoint`, in evaluation mode, placed as `plan` says.

    `report` hears of the weights loaded so far, in bytes.

    Raises:
        BrokenCheckpoint: files are damaged, or tensors of the model are missing from them.
        OutOfMemory: a device ran full.
        RemoteCodeRefused, NotAChatModel: transformers has no class for it.
        UsageError: it is to be shared by processes and cannot be.
    """
    if plan.placement == "tensor":
        from chatcli.runtime.tensor_parallel import leader

        return leader.open(checkpoint, weights, plan, lambda: load_here(checkpoint, weights, plan, report))
    return load_here(checkpoint, weights, plan, report)


def load_here(checkpoint: Checkpoint, weights: Weights, plan: LoadPlan, report: Report) -> Any:
    """The same for what this process holds of it."""
    trust = _may_run_its_code(checkpoint)
    with (
        explained(checkpoint.name, foreign=trust),
        _weights_reported(weights, report),
        Unfilled(),
        placed(plan) as place,
    ):
        config = _configuration(checkpoint, plan, trust=trust)
        loaded: Any = _model_class(checkpoint, config).from_pretrained(
            None if checkpoint.gguf else checkpoint.folder,
            config=config,
            state_dict=_unpacked(checkpoint, config, plan),
            dtype=getattr(torch, plan.dtype),
            local_files_only=True,
            trust_remote_code=trust,
            use_safetensors=weights.format == "safetensors",
            weights_only=True,
            output_loading_info=True,
            **place.arguments,
            **quantized(plan),
        )
        model, info = loaded
        _check_complete(checkpoint.name, info, unused="pooler." if makes_vectors(checkpoint) else None)
        place.settle(model, plan, report)
    if note := told(model, quant_method(checkpoint.config)):
        report(Progress("loading", note=note))
    if checkpoint.loras:
        model = put_on(model, checkpoint)
    upcast_prompts(model)
    return model.eval()


def _model_class(checkpoint: Checkpoint, config: Any) -> Any:
    """Whose `from_pretrained` it is; the one that finds the class by itself wants a folder."""
    if checkpoint.gguf:
        return getattr(transformers, checkpoint.config["architectures"][0])
    if makes_vectors(checkpoint):
        return transformers.AutoModel
    return auto_class(config)


def _unpacked(checkpoint: Checkpoint, config: Any, plan: LoadPlan) -> Any:
    """The tensors of a GGUF file by transformers' names; None where transformers reads the files itself."""
    if not checkpoint.gguf:
        return None
    from chatcli.runtime.gguf import state_dict

    place = plan.device if plan.placement == "single" else "cpu"
    return state_dict(checkpoint.gguf, config, getattr(torch, plan.dtype), torch.device(place))


def _configuration(checkpoint: Checkpoint, plan: LoadPlan, *, trust: bool) -> Any:
    """What config.json says, less the code it may choose for attention and experts: that of a package or of the Hub.

    Packed experts are taken one at a time, which the plain way of computing them does.
    """
    if checkpoint.gguf:
        said = {key: value for key, value in checkpoint.config.items() if key != "model_type"}
        found = transformers.AutoConfig.for_model(checkpoint.model_type, **said)
    else:
        where = checkpoint.folder
        found = transformers.AutoConfig.from_pretrained(where, local_files_only=True, trust_remote_code=trust)
    found._attn_implementation = None
    found._experts_implementation = None if plan.quantization == "none" else "eager"
    if packed := getattr(found, "quantization_config", None):
        found.quantization_config = readable(packed, plan.device)
    if plan.placement == "tensor":
        from chatcli.runtime.tensor_parallel import require_sliceable

        require_sliceable(checkpoint.name, found)
    return found


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer as transformers makes it of the checkpoint's files; it cuts and pads nothing."""
    trust = _may_run_its_code(checkpoint)
    with explained(checkpoint.name, foreign=trust):
        slow = transformers.AutoTokenizer.from_pretrained(
            checkpoint.texts or checkpoint.folder, local_files_only=True, trust_remote_code=trust
        )
    backend = getattr(slow, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BrokenCheckpoint(
            f"{checkpoint.name} has no tokenizer.json, and its {type(slow).__name__} cannot be converted to one; "
            "use a checkpoint that carries a tokenizer.json."
        )
    backend.no_truncation()
    backend.no_padding()
    return backend


def _may_run_its_code(checkpoint: Checkpoint) -> bool:
    """Whether its own Python code must run and may; registers the port that makes it needless, where one does.

    The answer goes to transformers in every call: left open, it would read its own question's answer from stdin.

    Raises:
        RemoteCodeRefused: it must and may not.
    """
    ports.register(checkpoint.model_type)
    needed = code_needed(checkpoint)
    require_agreement(checkpoint, needed)
    return bool(needed)


def _check_complete(name: str, info: Mapping[str, Any], unused: str | None = None) -> None:
    """Refuse what transformers would have filled with random numbers, but for tensors that begin with `unused`."""
    missing = sorted(each for each in info.get("missing_keys") or () if not (unused and each.startswith(unused)))
    if missing:
        raise BrokenCheckpoint(f"{name} lacks {len(missing)} of its model's tensors, {missing[0]} among them; {UNFIT}.")
    mismatched = info.get("mismatched_keys")
    if mismatched:
        raise BrokenCheckpoint(
            f"{name} has tensors whose shapes do not fit its config.json, {sorted(map(str, mismatched))[0]} among "
            "them; get the checkpoint again."
        )


@contextmanager
def _weights_reported(weights: Weights, report: Report) -> Generator[None]:
    """Count the bytes of weights as transformers goes through them, in place of its progress bar."""
    sizes = {name: tensor.bytes for name, tensor in weights.tensors.items()}
    total = sum(sizes.values())

    def counted(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Iterable[Any]:
        return _count(args[0], sizes, total, report) if args else iter(())

    report(Progress("loading", 0, total, "B"))
    previous = logging.set_tqdm_hook(counted)
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


def _count(items: Any, sizes: Mapping[str, int], total: int, report: Report) -> Iterator[Any]:
    """Pass on `items`, pairs that begin with a tensor's name, and report their bytes so far."""
    share = total // max(len(items), 1)
    done = 0
    for item in items:
        yield item
        done = min(done + sizes.get(item[0] if isinstance(item, tuple) else "", share), total)
        report(Progress("loading", done, total, "B"))
