"""Texts become vectors: encoded by whoever asks, computed pass by pass where the model computes.

A model that was made for nothing else is an `EmbeddingEngine`, which is served as any other; chat models do it beside
their answers. It knows no tensor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from chatcli.conversation import Conversation
from chatcli.errors import ContextOverflow, EngineError, UsageError
from chatcli.generation import Embedded, EngineFacts, Event, Finished, GenerationSettings, Made, Progress
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.pooling import Pooling, longest, pooling
from chatcli.models.quantized import require_readable
from chatcli.models.read_ahead import read_ahead
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.weights import weights as read_weights

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report
    from chatcli.runtime.embed import Embedder

BEAT_SECONDS = 0.1
"""How often one that waits says so: only then can whoever asked let go of it."""
_UNKNOWN_CONTEXT = 512

Result = TypeVar("Result")


class Submit(Protocol):
    """Has work done where the model computes, between other work."""

    def __call__(self, work: Callable[[], Result], /) -> Future[Result]:
        """What the work will return, or raise."""
        ...


class Embeds(Protocol):
    """What makes vectors of ids: a model."""

    def embed(
        self, prompts: Sequence[Sequence[int]], pooling: Pooling, unwanted: Callable[[], bool]
    ) -> Generator[Progress | Embedded]:
        """A report of each pass, last the vectors; it ends in the middle of a pass that is `unwanted`."""
        ...


def at_once(work: Callable[[], Result]) -> Future[Result]:
    """Do the work here and now."""
    done: Future[Result] = Future()
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    return done


def encoded(texts: Sequence[str], tokenize: Callable[[str], list[int]], context: int) -> list[list[int]]:
    """The ids of each text.

    Raises:
        ContextOverflow: one is longer than the context.
        UsageError: one has no tokens.
    """
    prompts = [tokenize(text) for text in texts]
    most = max(map(len, prompts))
    if most > context:
        raise ContextOverflow(f"A text has {most} tokens, but the model reads {context}: shorten it.", most)
    if not all(prompts):
        raise UsageError("A text has no tokens, and so no vector: leave it out.")
    return prompts


def embedded(model: Embeds, prompts: Sequence[Sequence[int]], way: Pooling, submit: Submit) -> Generator[Made]:
    """The vectors of the prompts, each pass `submit`ted; what waits says so every tenth of a second.

    Closing it gives up the pass that is under way, and returns when that has ended.
    """
    left = threading.Event()
    passes = model.embed(prompts, way, left.is_set)
    under_way: Future[Progress | Embedded | None] | None = None
    try:
        while True:
            under_way = submit(partial(next, passes, None))
            while not wait((under_way,), BEAT_SECONDS).done:
                yield Progress("waiting")
            if (event := under_way.result()) is None:
                break
            yield event
    finally:
        left.set()
        if under_way:
            wait((under_way,))
        passes.close()
    yield Finished("stop", sum(map(len, prompts)))


class EmbeddingEngine:
    """A model that turns texts into vectors, for many threads at once; who came first is served first."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, model: Embedder, way: Pooling) -> None:
        self._tokenizer, self._model, self._way = tokenizer, model, way
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        self.facts = EngineFacts(
            checkpoint.name,
            checkpoint.revision,
            model.device,
            model.precision,
            longest(checkpoint) or _UNKNOWN_CONTEXT,
            sees=False,
            chats=False,
        )

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Not here.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.facts.model} turns texts into vectors and answers nothing: ask it for embeddings.")

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Not here, either."""
        return self.stream(Conversation(), settings)

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, with what the tokenizer itself puts around it."""
        return list(self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8")).ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens with it."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def embed(self, texts: Sequence[str]) -> Generator[Made]:
        """The vectors of the texts.

        Raises:
            ContextOverflow: a text is longer than what the model reads.
            OutOfMemory, EngineError: the model failed.
        """
        yield from embedded(self._model, encoded(texts, self.tokenize, self.facts.context), self._way, self._submit)

    def close(self) -> None:
        """Free the model's memory. May be called twice."""
        self._thread.shutdown(cancel_futures=True)
        self._model.close()

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        try:
            return self._thread.submit(work)
        except RuntimeError as error:  # it is shut down
            raise EngineError("The model was closed while it answered.") from error


def open_embedding(checkpoint: Checkpoint, report: Report, request: LoadRequest) -> EmbeddingEngine:
    """Load a checkpoint that was made for vectors.

    Raises:
        ModelError: it is damaged, needs code of its own, or makes vectors in a way that is not known here.
        OutOfMemory: it does not fit.
    """
    way = pooling(checkpoint)
    require_readable(checkpoint)
    weights = read_weights(checkpoint)
    read_ahead(weights.files)
    report(Progress("starting"))
    from chatcli.runtime import loading

    with loading():
        from chatcli.runtime.load import load_tokenizer
        from chatcli.runtime.model import load_embedder

        # What is around a text decides here, and some tokenizers have it from tokenizer_config.json.
        tokenizer = load_tokenizer(checkpoint)
        model = load_embedder(checkpoint, weights, report, request)
    return EmbeddingEngine(checkpoint, tokenizer, model, way)
