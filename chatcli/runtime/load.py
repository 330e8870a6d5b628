"""Carry out a load plan: from a checkpoint's files to a model that computes.

Every failure of torch, transformers or safetensors on the way becomes one sentence here. It runs no
code from a checkpoint that nobody agreed to and unpickles nothing but tensors; it knows no prompt and no token.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers.utils import logging

from chatcli.errors import BrokenCheckpoint, ChatcliError, NotAChatModel, OutOfMemory, RemoteCodeRefused
from chatcli.generation import Progress
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.plan import LoadPlan
from chatcli.models.quantized import quant_method
from chatcli.models.remote_code import require_agreement
from chatcli.models.weights import Weights
from chatcli.runtime import ports
from chatcli.runtime.quantize import quantized, readable, told
from chatcli.runtime.remote_code import code_needed

Report = Callable[[Progress], None]


def load_model(checkpoint: Checkpoint, weights: Weights, plan: LoadPlan, report: Report) -> Any:
    """The causal language model of `checkpoint`, in evaluation mode, placed as `plan` says.

    `report` hears of the weights loaded so far, in bytes.

    Raises:
        BrokenCheckpoint: files are damaged, or tensors of the model are missing from them.
        OutOfMemory: a device ran full.
        RemoteCodeRefused, NotAChatModel: transformers has no class for it.
    """
    trust = _may_run_its_code(checkpoint)
    with explained(checkpoint.name, foreign=trust), _weights_reported(weights, report):
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=_configuration(checkpoint, plan, trust=trust),
            dtype=getattr(torch, plan.dtype),
            local_files_only=True,
            trust_remote_code=trust,
            use_safetensors=weights.format == "safetensors",
            weights_only=True,
            output_loading_info=True,
            **_placement(plan),
            **quantized(plan),
        )
        model, info = loaded
    _check_complete(checkpoint.name, info)
    if note := told(model, quant_method(checkpoint.config)):
        report(Progress("loading", note=note))
    return model.eval()


def _configuration(checkpoint: Checkpoint, plan: LoadPlan, *, trust: bool) -> Any:
    """What config.json says, less the code it may choose for attention and experts: that of a package or of the Hub.

    Packed experts are taken one at a time, which the plain way of computing them does.
    """
    found = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=trust)
    found._attn_implementation = None
    found._experts_implementation = None if plan.quantization == "none" else "eager"
    if said := getattr(found, "quantization_config", None):
        found.quantization_config = readable(said, plan.device)
    return found


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint without tokenizer.json, converted by transformers."""
    trust = _may_run_its_code(checkpoint)
    with explained(checkpoint.name, foreign=trust):
        slow = transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=trust
        )
    backend = getattr(slow, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BrokenCheckpoint(
            f"{checkpoint.name} has no tokenizer.json, and its {type(slow).__name__} cannot be converted to one; "
            "use a checkpoint that carries a tokenizer.json."
        )
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


def _placement(plan: LoadPlan) -> dict[str, Any]:
    """Arguments of `from_pretrained`: one device, or accelerate's map over several."""
    if plan.placement == "auto":
        return {"device_map": "auto", "max_memory": dict(plan.max_memory)}
    return {"device_map": {"": plan.device}}


def _check_complete(name: str, info: Mapping[str, Any]) -> None:
    """Refuse what transformers would have filled with random numbers."""
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        raise BrokenCheckpoint(
            f"{name} lacks {len(missing)} of its model's tensors, {missing[0]} among them; {_UNFIT}."
        )
    mismatched = info.get("mismatched_keys")
    if mismatched:
        raise BrokenCheckpoint(
            f"{name} has tensors whose shapes do not fit its config.json, {sorted(map(str, mismatched))[0]} among "
            "them; get the checkpoint again."
        )


@contextmanager
def explained(name: str, *, foreign: bool = False) -> Generator[None]:
    """Turn what the libraries raise while loading `name` into errors that people understand.

    Code from its repository, `foreign`, may raise anything.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ChatcliError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(
            f"{name} does not fit into the memory that is free now; close other programs or choose a smaller model."
        ) from error
    except pickle.UnpicklingError as error:
        raise BrokenCheckpoint(
            f"The .bin files of {name} hold more than tensors, and chatcli runs no code from a checkpoint; "
            "choose one with safetensors."
        ) from error
    except (SafetensorError, EOFError) as error:
        raise BrokenCheckpoint(f"The weights of {name} are damaged ({error}); get them again.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise _explanation(name, error) from error
    except Exception as error:
        if not foreign:  # then it is a defect of ours
            raise
        raise _explanation(name, error) from error


_UNFIT = "its config.json and its weights do not belong together: get the checkpoint again"
_MEANT = {
    "ignore_mismatched_sizes": _UNFIT,
    "automatic conversion of the weights": _UNFIT,
    "instantiate the backend tokenizer": "it holds no tokenizer.json and no vocabulary to make one of: get it again",
}
"""Parts of what transformers says, by which a person would not know what is wrong, and what is."""


def _explanation(name: str, error: Exception) -> ChatcliError:
    text = " ".join(str(error).split())
    first = text.split(". ")[0][:300].removesuffix(".")
    if "trust_remote_code" in text:
        return RemoteCodeRefused(
            f"{name} only runs with Python code from its repository, which chatcli does not execute; "
            "choose a checkpoint whose family transformers knows."
        )
    if "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        return OutOfMemory(f"{name} does not fit into the memory that is free now; choose a smaller model.")
    if "Unrecognized configuration class" in text:
        return NotAChatModel(f"{name} is not a text-generating model, as far as transformers knows.")
    if isinstance(error, ImportError):
        return BrokenCheckpoint(f"{name} needs a package that is not installed: {first}.")
    if isinstance(error, KeyError):
        return BrokenCheckpoint(f"{name} cannot be loaded: {first} is missing from its JSON files, or not known there.")
    meant = next((meant for part, meant in _MEANT.items() if part in text), "")
    return BrokenCheckpoint(f"{name} cannot be loaded: {meant or f'{first} ({type(error).__name__})'}.")


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
