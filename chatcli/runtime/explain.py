"""What torch, transformers and safetensors raise while a model loads or answers, in a sentence that people understand.

It knows the libraries' exceptions and what they say; it loads nothing.
"""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Generator
from contextlib import contextmanager

from safetensors import SafetensorError

from chatcli.errors import (
    BrokenCheckpoint,
    ChatcliError,
    EngineError,
    NotAChatModel,
    OutOfMemory,
    RemoteCodeRefused,
)

UNFIT = "its config.json and its weights do not belong together: get the checkpoint again"
_MEANT = {
    "ignore_mismatched_sizes": UNFIT,
    "automatic conversion of the weights": UNFIT,
    "instantiate the backend tokenizer": "it holds no tokenizer.json and no vocabulary to make one of: get it again",
}
"""Parts of what transformers says, by which a person would not know what is wrong, and what is."""


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
    except MemoryError as error:
        raise _explanation(name, error) from error
    except (OSError, SafetensorError) as error:
        raise _explanation(name, error) from error
    except pickle.UnpicklingError as error:
        raise BrokenCheckpoint(
            f"The .bin files of {name} hold more than tensors, and chatcli runs no code from a checkpoint; "
            "choose one with safetensors."
        ) from error
    except EOFError as error:
        raise _damaged(name, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise _explanation(name, error) from error
    except Exception as error:
        if not foreign:  # then it is a defect of ours
            raise
        raise _explanation(name, error) from error


def _explanation(name: str, error: Exception) -> ChatcliError:
    text = " ".join(str(error).split())
    first = text.split(". ")[0][:300].removesuffix(".")
    if "trust_remote_code" in text:
        return RemoteCodeRefused(
            f"{name} only runs with Python code from its repository, which chatcli does not execute; "
            "choose a checkpoint whose family transformers knows."
        )
    if "No space left on device" in text:
        return OutOfMemory(
            f"The disk is full, and parts of {name} that do not fit into memory are kept there: make room, "
            "or choose a smaller model."
        )
    if isinstance(error, SafetensorError):
        return _damaged(name, error)
    if _lacks_memory(error):
        return OutOfMemory(
            f"{name} does not fit into the memory that is free now; close other programs or choose a smaller model."
        )
    if "Unrecognized configuration class" in text:
        return NotAChatModel(f"{name} is not a text-generating model, as far as transformers knows.")
    if isinstance(error, ImportError):
        return BrokenCheckpoint(f"{name} needs a package that is not installed: {first}.")
    if isinstance(error, KeyError):
        return BrokenCheckpoint(f"{name} cannot be loaded: {first} is missing from its JSON files, or not known there.")
    meant = next((meant for part, meant in _MEANT.items() if part in text), "")
    return BrokenCheckpoint(f"{name} cannot be loaded: {meant or f'{first} ({type(error).__name__})'}.")


@contextmanager
def explained_answer(device: str) -> Generator[None]:
    """The same for what is raised while a model on `device` answers.

    Raises:
        OutOfMemory: the device ran full.
        EngineError: anything else that a model or torch may come to.
    """
    try:
        yield
    except ChatcliError:
        raise
    except (MemoryError, RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        # The frames of the failed step hold its tensors as long as the error lives.
        traceback.clear_frames(error.__traceback__)
        if _lacks_memory(error):
            raise OutOfMemory(
                f"{device} ran out of memory while answering; the cache is freed: shorten the talk "
                "(/undo, /clear), lower --max-tokens, or choose a smaller model."
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"The model failed while answering: {reason} ({type(error).__name__}).") from error


_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "status_alloc_failed", "bad_alloc")
"""How CUDA, MPS, torch's CPU allocator, the kernel, cuBLAS and C++ say it."""


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in _NO_MEMORY)


def _damaged(name: str, error: Exception) -> ChatcliError:
    return BrokenCheckpoint(f"The weights of {name} are damaged ({error}); get them again.")
