"""A loaded causal model with the cache of the talk it is in: ids in, ids out.

What tensors and torch's errors are ends here; it knows no text.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from chatcli.adapters.pictures import Pictures
from chatcli.conversation import Attachment
from chatcli.errors import ChatcliError, OutOfMemory, UsageError
from chatcli.generation import GenerationSettings, Progress
from chatcli.load_request import NOTHING_SAID, LoadRequest
from chatcli.models.checkpoint import Checkpoint, context_length
from chatcli.models.plan import LoadPlan, plan
from chatcli.models.pooling import Pooling
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.weights import Weights
from chatcli.runtime.classes import serving
from chatcli.runtime.cpu import AS_TORCH_DOES, Way, attend_in_groups, fastest_row
from chatcli.runtime.decode import FeedTexts, Pace, decode, feed, prefill
from chatcli.runtime.devices import devices, free_bytes, memory_bandwidth
from chatcli.runtime.explain import explained_answer
from chatcli.runtime.graphs import StaticSteps, can_be_recorded
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.load import Report, load_model
from chatcli.runtime.placement import input_device, release
from chatcli.runtime.quantize import precision
from chatcli.runtime.sampling import Drawn, Sampler
from chatcli.runtime.speculate import Draft, PromptLookup
from chatcli.runtime.talks import Talks
from chatcli.torchrun import processes

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint, Vocabulary
    from chatcli.runtime.embed import Embedder, Passes

_SHARE_OF_TALKS = 4
"""Talks that nobody is in may take one part in so many of the memory that the model leaves free."""


class CausalModel:
    """Generates ids; what was read stays cached from one call to the next.

    Attributes:
        device: where its first layer is, such as "cuda:0" or "cpu".
        precision: the weights' type, such as "bfloat16" or "int4".
        most_tokens_per_second: the decode rate that the memory's bandwidth bounds; 0 where it is not known.
        pace: how much of a prompt is read at once.
        one_row: how it computes a single token fastest.
        some_rows: and several at once, of one text or of some.
        together: a way to feed several texts at once, where there is one by now that is faster.
        steps: what decodes by steps that are recorded on a GPU; None where that cannot be.
        draft: a smaller model with the same tokens, which guesses; without one, guesses come from the text itself.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # The other processes of a shared model hold the cache of one talk, and hear of nothing but whole passes.
        self._is_shared = bool(getattr(model, "is_shared", False))
        budget = 0 if self._is_shared else free_bytes(input_device(model)) // _SHARE_OF_TALKS
        self._talks = Talks(model.config, budget)
        self.pace = Pace()
        self.draft: CausalModel | None = None
        self.one_row: Way = fastest_row(model)
        self.some_rows: Way = AS_TORCH_DOES
        self.together: Callable[[], FeedTexts | None] = lambda: None
        if model.device.type == "cpu":
            attend_in_groups()
        self.steps = StaticSteps(model) if can_be_recorded(model) and not self._is_shared else None
        self.device = str(input_device(model))
        self.precision = precision(model)
        read = bytes_per_token(model)
        self.most_tokens_per_second = memory_bandwidth(model.device) / read if read else 0.0
        self.logprobs: list[Drawn] = []
        self._vocabulary: Vocabulary | None = None
        self._reading_vocabulary = threading.Lock()

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: TokenConstraint | None = None,
        images: Sequence[Attachment] = (),
    ) -> Generator[Progress | int, None, bool]:
        """Read the prompt `ids`, then yield up to `limit` new ids; returns whether one of `end` came.

        Only a model with `pictures` gets `images`, those that the ids hold places for.

        The first item is a `Progress` that says how many of the prompt's tokens were still cached.
        `settings` has nothing open but the seed. `logprobs` then tells of the tokens drawn, if they ask for it.

        Raises:
            OutOfMemory: the device ran full; the cache has been freed.
            EngineError: the model failed.
        """
        with self._explained(), self._talks.lent(ids) as cache:
            logits = yield from prefill(self._model, cache, ids, self.pace, self.some_rows)
            cache.asked = len(ids)
            sampler = Sampler(settings, logits.device, constraint)
            self.logprobs = sampler.logprobs
            return (yield from self.decode(cache, ids, logits, sampler, end=end, limit=limit))

    def decode(
        self,
        cache: PrefixCache,
        ids: Sequence[int],
        logits: torch.Tensor,
        sampler: Sampler,
        *,
        end: Collection[int],
        limit: int,
    ) -> Generator[int, None, bool]:
        """What `runtime.decode.decode` does, in the fastest way for a talk that has the model to itself.

        Raises:
            OutOfMemory, EngineError: as `generate`.
        """
        with self._explained():
            if self.steps and sampler.plain and not self.draft:
                return (yield from self.steps.decode(cache, ids, logits, sampler, end=end, limit=limit))
            guesser = Draft(self.draft.likeliest) if self.draft else PromptLookup()
            return (
                yield from decode(
                    self._model,
                    cache,
                    ids,
                    logits,
                    sampler,
                    end=end,
                    limit=limit,
                    one_row=self.one_row,
                    some_rows=self.some_rows,
                    guesser=guesser,
                )
            )

    def likeliest(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` likeliest ids after `ids`, one after the other; none where the context has no room for them."""
        if len(ids) + count > (context_length(self._model.config.to_dict()) or len(ids) + count):
            return []
        cache = self._talks.latest
        logits = _returned(prefill(self._model, cache, ids, self.pace, self.some_rows))
        made = [int(logits.argmax())]
        while len(made) < count:
            with self.one_row():
                made.append(int(feed(self._model, cache, made[-1:])[0].argmax()))
        return made

    def prepare(self, ids: Sequence[int]) -> Generator[Progress]:
        """Read what a person may be about to say, so that it is cached when they do; at once where it cannot be.

        A cache that cannot be cut would have to be made again from nothing if they say something else.
        """
        if self.batches:
            with self._explained(), self._talks.lent(ids) as cache:
                yield from prefill(self._model, cache, ids, self.pace, self.some_rows)

    @property
    def module(self) -> Any:
        """The model as transformers has it, for those who feed or measure it themselves."""
        return self._model

    @property
    def tokens(self) -> int:
        """How many tokens it knows."""
        return int(self._model.get_input_embeddings().num_embeddings)

    @property
    def talks(self) -> Talks:
        """What was read before."""
        return self._talks

    @property
    def interleaves(self) -> bool:
        """Whether several calls of `generate` may be under way at once, a step of one after a step of another.

        Not where all of them share a cache: that of the other processes, or the buffers of a recorded step, which
        also draws a token ahead of what was told.
        """
        return not self._is_shared and self.steps is None

    def pictures(self, tokenizer: Tokenizer) -> Pictures | None:
        """How it is shown pictures; None for a model that reads text only."""
        return None

    @property
    def batches(self) -> bool:
        """Whether prompts of different lengths can be read together: the cache is plain keys and values.

        A model that minds the padding in front of a shorter prompt says so: `pads_count = True`.
        """
        pads_count = getattr(self._model, "pads_count", False)
        return self._talks.latest.is_plain and not pads_count and not self._is_shared

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
        """The same for many prompts at once, which leave no talk in the cache; see `decode_batch`.

        A single one is read without padding.
        """
        from chatcli.runtime.batch import decode_batch

        samplers = [
            Sampler(each, input_device(self._model), constraint)
            for each, constraint in zip(settings, constraints, strict=True)
        ]
        self._talks.clear()
        with self._explained():
            yield from decode_batch(self._model, prompts, samplers, end=end, limits=limits, stopped=stopped)

    def embed(self, prompts: Sequence[Sequence[int]], pooling: Pooling, unwanted: Callable[[], bool]) -> Passes:
        """The vectors of the prompts, apart from any talk; see `runtime.embed`."""
        from chatcli.runtime.embed import embed

        model = self._model
        reader = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
        yield from embed(model, reader if reader is not model else None, prompts, pooling, unwanted)

    def constrained(
        self, tokenizer: Tokenizer, grammar: str, *, end: Collection[int], limit: int, begin: int | None
    ) -> TokenConstraint:
        """A constraint for one answer, which may be asked for from any thread; see `TokenConstraint`.

        Raises:
            UsageError: the model's tokenizer is of a kind that no grammar can be followed with.
        """
        from chatcli.runtime.constrain import TokenConstraint, Vocabulary

        with self._reading_vocabulary:  # many may ask at once, and it takes seconds
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
            with explained_answer(self.device):
                yield
        except ChatcliError as error:
            if self.steps and isinstance(error, OutOfMemory):
                self.steps.forget()
            self.forget()
            raise

    def forget(self) -> None:
        """Drop the caches, that of the draft model as well, and give their memory back to the device."""
        self._talks.clear()
        if self.draft:
            self.draft.forget()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop model and cache, and the draft model."""
        if self.draft:
            self.draft.close()
        release(self._model)
        self._model = self.steps = None
        self.one_row, self.some_rows, self.together = AS_TORCH_DOES, AS_TORCH_DOES, lambda: None
        self.forget()


def _returned(steps: Generator[object, None, torch.Tensor]) -> torch.Tensor:
    """What a generator returns, all that it yields passed over."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: torch.Tensor = end.value
            return found


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
    """Where `checkpoint` would go now, and in which precision; processes of torchrun share it.

    Raises:
        OutOfMemory: it fits nowhere.
    """
    chosen = plan(checkpoint.config, weights.tensors, devices(), request, stored_bytes=weights.bytes)
    return replace(chosen, placement="tensor") if processes(os.environ) > 1 else chosen


def load(checkpoint: Checkpoint, weights: Weights, report: Report, request: LoadRequest = NOTHING_SAID) -> CausalModel:
    """Load `checkpoint` as `request` says, else to the best place that this machine has for it."""
    model = serving(_loaded(checkpoint, weights, report, request), checkpoint)
    if request.compile is not False:
        _compile(model, report, aloud=bool(request.compile))
    return model


def load_embedder(checkpoint: Checkpoint, weights: Weights, report: Report, request: LoadRequest) -> Embedder:
    """The same for a model that makes vectors and nothing else."""
    from chatcli.runtime.embed import Embedder

    return Embedder(_loaded(checkpoint, weights, report, request))


def _loaded(checkpoint: Checkpoint, weights: Weights, report: Report, request: LoadRequest) -> Any:
    chosen = planned(checkpoint, weights, request)
    for note in chosen.notes:
        report(Progress("loading", note=note))
    return load_model(checkpoint, weights, chosen, report)


def _compile(model: CausalModel, report: Report, *, aloud: bool) -> None:
    """Have a few tokens computed by our own step, once that is built; where it cannot be, say so `aloud`.

    A step that is recorded on a GPU is torch's to compile, which takes a minute: only if that was asked for aloud.
    """
    from chatcli.runtime.native.build import CannotBuildError, cache_folder
    from chatcli.runtime.native.passes import native_passes
    from chatcli.runtime.native.step import NotOfThisShapeError

    if model.steps and aloud:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder(os.environ) / "inductor"))
        report(Progress("loading", note="--compile: torch compiles the step; that takes a minute the first time."))
        if not model.steps.compile():
            report(Progress("loading", note="--compile changes nothing: torch cannot compile this model's step."))
        return
    try:
        native = native_passes(model.module, os.environ)
    except (CannotBuildError, NotOfThisShapeError) as error:
        if aloud:
            report(Progress("loading", note=f"--compile changes nothing: {error}."))
        return
    model.one_row, model.some_rows, model.together = native.one_row(model.one_row), native.some_rows, native.together
