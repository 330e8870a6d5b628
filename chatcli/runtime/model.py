"""A loaded causal model with the cache of the talk it is in: ids in, ids out.

What tensors and torch's errors are ends here; it knows no text.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from chatcli.errors import ChatcliError, EngineError, OutOfMemory, UsageError
from chatcli.generation import GenerationSettings, Progress
from chatcli.load_request import NOTHING_SAID, LoadRequest
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.plan import LoadPlan, plan
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.weights import Weights
from chatcli.runtime.cpu import fastest_row
from chatcli.runtime.decode import decode, prefill
from chatcli.runtime.devices import devices, memory_bandwidth
from chatcli.runtime.graphs import StaticSteps, can_be_recorded
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.load import Report, load_model
from chatcli.runtime.sampling import Drawn, Sampler
from chatcli.runtime.upcast import upcast_prompts

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint, Vocabulary


class CausalModel:
    """Generates ids; what was read stays cached from one call to the next.

    Attributes:
        device: where its first layer is, such as "cuda:0" or "cpu".
        precision: the weights' type, such as "bfloat16".
        most_tokens_per_second: the decode rate that the memory's bandwidth bounds; 0 where it is not known.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = PrefixCache(model.config)
        self._one_row = fastest_row(model)
        self._steps = StaticSteps(model) if can_be_recorded(model) else None
        self.device = str(model.device)
        self.precision = str(model.dtype).removeprefix("torch.")
        read = bytes_per_token(model)
        self.most_tokens_per_second = memory_bandwidth(model.device) / read if read else 0.0
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
        with self._explained():
            logits = yield from prefill(self._model, self._cache, ids)
            sampler = Sampler(settings, logits.device, constraint)
            self.logprobs = sampler.logprobs
            if self._steps and sampler.plain:
                return (yield from self._steps.decode(self._cache, ids, logits, sampler, end=end, limit=limit))
            return (
                yield from decode(
                    self._model, self._cache, ids, logits, sampler, end=end, limit=limit, one_row=self._one_row
                )
            )

    @property
    def module(self) -> Any:
        """The model as transformers has it, for those who measure it."""
        return self._model

    @property
    def batches(self) -> bool:
        """Whether prompts of different lengths can be read together: the cache is plain keys and values.

        A model that minds the padding in front of a shorter prompt says so: `pads_count = True`.
        """
        return self._cache.is_plain and not getattr(self._model, "pads_count", False)

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        settings: Sequence[GenerationSettings],
        *,
        end: Sequence[Collection[int]],
        limits: Sequence[int],
        stopped: Collection[int],
        constraints: Sequence[TokenConstraint | None],
    ) -> Generator[tuple[int, int | None]]:
        """The same for many prompts at once; see `decode_batch`. A single one is read without padding."""
        from chatcli.runtime.batch import decode_batch

        samplers = [
            Sampler(each, self._model.device, constraint)
            for each, constraint in zip(settings, constraints, strict=True)
        ]
        with self._explained():
            yield from decode_batch(self._model, prompts, samplers, end=end, limits=limits, stopped=stopped)

    def constrained(
        self, tokenizer: Tokenizer, grammar: str, *, end: Collection[int], limit: int, begin: int | None
    ) -> TokenConstraint:
        """A constraint for one answer; see `TokenConstraint`.

        Raises:
            UsageError: the model's tokenizer is of a kind that no grammar can be followed with.
        """
        from chatcli.runtime.constrain import TokenConstraint, Vocabulary

        if not self._vocabulary:
            size = self._model.get_input_embeddings().num_embeddings
            try:
                self._vocabulary = Vocabulary(tokenizer, end, size)
            except (ValueError, AttributeError) as error:
                raise UsageError(f"This model's tokenizer cannot be held to a constraint: {error}.") from error
        return TokenConstraint(self._vocabulary, grammar, limit, begin)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Say in a sentence what torch and transformers raise; the cache of a broken turn is dropped."""
        try:
            yield
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

    def forget(self) -> None:
        """Drop the cache and give its memory back to the device."""
        self._cache.clear()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop model and cache."""
        self._model = self._steps = None
        self.forget()


def bytes_per_token(model: Any) -> int:
    """Bytes of weights that are read for each new token; 0 where that is not the same for all of them.

    All weights but the rows of the embedding that were not asked for. Of a mixture of experts only some are
    read, and of a model on several devices each reads at its own pace.
    """
    config = model.config.get_text_config()
    experts = ("num_experts", "num_local_experts", "n_routed_experts")
    weights = list(model.parameters())
    if any(getattr(config, name, 0) for name in experts) or len({weight.device for weight in weights}) > 1:
        return 0
    total = sum(weight.numel() * weight.element_size() for weight in weights)
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings() is not None and model.get_output_embeddings().weight is embedding
    return int(total if tied else total - embedding.numel() * embedding.element_size())


def planned(checkpoint: Checkpoint, weights: Weights, request: LoadRequest) -> LoadPlan:
    """Where `checkpoint` would go now, and in which precision.

    Raises:
        OutOfMemory: it fits nowhere.
    """
    return plan(checkpoint.config, weights.tensors, devices(), request, stored_bytes=weights.bytes)


def load(checkpoint: Checkpoint, weights: Weights, report: Report, request: LoadRequest = NOTHING_SAID) -> CausalModel:
    """Load `checkpoint` as `request` says, else to the best place that this machine has for it."""
    chosen = planned(checkpoint, weights, request)
    for note in chosen.notes:
        report(Progress("loading", note=note))
    module = load_model(checkpoint, weights, chosen, report)
    upcast_prompts(module)
    return CausalModel(module)
