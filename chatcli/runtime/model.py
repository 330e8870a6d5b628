"""A loaded causal model with the cache of the talk it is in: ids in, ids out.

What tensors and torch's errors are ends here; it knows no text.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any

import tokenizers
import torch

from chatcli.errors import ChatcliError, EngineError, OutOfMemory, UsageError
from chatcli.generation import GenerationSettings, Progress
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.plan import plan
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.weights import Weights
from chatcli.runtime.decode import decode, prefill
from chatcli.runtime.devices import devices
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.load import Report, load_model
from chatcli.runtime.sampling import Drawn, Sampler

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint, Vocabulary


class CausalModel:
    """Generates ids; what was read stays cached from one call to the next.

    Attributes:
        device: where its first layer is, such as "cuda:0" or "cpu".
        precision: the weights' type, such as "bfloat16".
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = PrefixCache(model.config)
        self.device = str(model.device)
        self.precision = str(model.dtype).removeprefix("torch.")
        self.logprobs: list[Drawn] = []
        self._vocabulary: Vocabulary | None = None

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: TokenConstraint | None = None,
    ) -> Generator[Progress | int, None, bool]:
        """Read the prompt `ids`, then yield up to `limit` new ids; returns whether one of `end` came.

        The first item is a `Progress` that says how many of the prompt's tokens were still cached.
        `settings` has nothing open but the seed. `logprobs` then tells of the tokens drawn, if they ask for it.

        Raises:
            OutOfMemory: the device ran full; the cache has been freed.
            EngineError: the model failed.
        """
        try:
            logits = yield from prefill(self._model, self._cache, ids)
            sampler = Sampler(settings, logits.device, constraint)
            self.logprobs = sampler.logprobs
            return (yield from decode(self._model, self._cache, ids, logits, sampler, end=end, limit=limit))
        except ChatcliError:
            raise
        except (torch.OutOfMemoryError, MemoryError) as error:
            self.forget()
            raise OutOfMemory(
                f"{self.device} ran out of memory while answering; the cache is freed: shorten the talk "
                "(/undo, /clear), lower --max-tokens, or choose a smaller model."
            ) from error
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
            self.forget()
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"The model failed while answering: {reason} ({type(error).__name__}).") from error

    def constrained(
        self, tokenizer: Tokenizer, grammar: str, *, end: Collection[int], limit: int, begin: int | None
    ) -> TokenConstraint:
        """A constraint for one answer; see `TokenConstraint`.

        Raises:
            UsageError: the model's tokenizer is of a kind that no grammar can be followed with.
        """
        from chatcli.runtime.constrain import TokenConstraint, Vocabulary

        if not isinstance(tokenizer, tokenizers.Tokenizer):
            raise UsageError(
                "This model's vocabulary is a SentencePiece file, which no constraint can be followed with."
            )
        if not self._vocabulary:
            size = self._model.get_input_embeddings().num_embeddings
            try:
                self._vocabulary = Vocabulary(tokenizer, end, size)
            except (ValueError, AttributeError) as error:
                raise UsageError(f"This model's tokenizer cannot be held to a constraint: {error}.") from error
        return TokenConstraint(self._vocabulary, grammar, limit, begin)

    def forget(self) -> None:
        """Drop the cache and give its memory back to the device."""
        self._cache.clear()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop model and cache."""
        self._model = None
        self.forget()


def load(checkpoint: Checkpoint, weights: Weights, report: Report) -> CausalModel:
    """Load `checkpoint` to the best place that this machine has for it."""
    chosen = plan(checkpoint.config, weights.tensors, devices(), stored_bytes=weights.bytes)
    for note in chosen.notes:
        report(Progress("loading", note=note))
    return CausalModel(load_model(checkpoint, weights, chosen, report))
