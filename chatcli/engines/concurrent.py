"""A local engine for many threads at once: all of them are answered together, by one thread that computes.

A request is rendered, encoded and cleaned as by any `LocalEngine`, in the thread of whoever asks; only its ids go
through the batch. What the batch does is `runtime.continuous`'.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from chatcli.adapters.table import Table
from chatcli.conversation import Attachment, Conversation
from chatcli.engines.embedding import BEAT_SECONDS
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import EngineError
from chatcli.generation import EngineFacts, Event, GenerationSettings, Progress
from chatcli.load_request import NOTHING_SAID, LoadRequest
from chatcli.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report
    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.model import CausalModel
    from chatcli.runtime.requests import Request, Told
    from chatcli.runtime.sampling import Drawn

_CLOSED = "The model was closed while it answered."

Result = TypeVar("Result")


class ConcurrentEngine:
    """`engine`, which is this one's from now on, for any number of threads. Every request is a talk of its own."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._worker = _Worker(engine.model)

    @property
    def facts(self) -> EngineFacts:
        """Those of the engine."""
        return self._engine.facts

    @property
    def running(self) -> int:
        """Requests that are being read or answered."""
        return self._worker.running

    @property
    def waiting(self) -> int:
        """Requests that are not begun yet."""
        return self._worker.waiting

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer as `LocalEngine.stream` does, with the same tokens; what waits says so every tenth of a second."""
        with closing(self._talk().stream(conversation, settings)) as events:
            yield from events

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with a text or with ids as `LocalEngine.complete` does."""
        with closing(self._talk().complete(prompt, settings)) as events:
            yield from events

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text; nothing is computed for it."""
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._engine.detokenize(ids)

    def embed(self, texts: Sequence[str]) -> Generator[Event]:
        """The vectors of the texts; between two passes the answers under way go on."""
        yield from self._engine.embed(texts, self._worker.submit)

    def run(self, work: Callable[[LocalEngine], Result]) -> Result:
        """Have `work` done with the engine while nothing else is computed, between two steps; what it raises is raised.

        Raises:
            EngineError: the engine is closed.
        """
        return self._worker.submit(lambda: work(self._engine)).result()

    def close(self) -> None:
        """End what is under way with an error, and free the model's memory. May be called twice."""
        if self._worker.close():
            self._engine.close()

    def _talk(self) -> LocalEngine:
        return self._engine.another_talk(_Place(self._worker))


class _Place:
    """What one request sees of the model: it generates as if there were no others."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self.logprobs: list[Drawn] = []

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
        """As `CausalModel.generate`, with a `Progress` of its own for each beat in which nothing came."""
        from chatcli.runtime.requests import Request

        heard: queue.SimpleQueue[Told] = queue.SimpleQueue()
        request = Request(ids, settings, end, limit, heard.put, constraint, images)
        self._worker.answer(request)
        try:
            while True:
                try:
                    told = heard.get(timeout=BEAT_SECONDS)
                except queue.Empty:
                    yield Progress("waiting")
                    continue
                self.logprobs = request.logprobs
                if isinstance(told, BaseException):
                    raise copy(told) from told.__cause__  # others may be told the same, each in its own thread
                if isinstance(told, bool):
                    return told
                yield told
        finally:
            request.cancelled = True


class _Worker:
    """The thread that computes, and what it is given to do."""

    def __init__(self, model: CausalModel) -> None:
        from chatcli.runtime.continuous import Continuous

        self._batch = Continuous(model)
        self._given: queue.SimpleQueue[Request | Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._giving = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return self._batch.running

    @property
    def waiting(self) -> int:
        return self._batch.waiting + self._given.qsize()

    def answer(self, request: Request) -> None:
        """Give a request to the batch; it is told what becomes of it."""
        self._give(request)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Have `work` done between two steps."""
        done: Future[Result] = Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._give(do)
        return done

    def close(self) -> bool:
        """End the thread after its step; False where that was done before."""
        with self._giving:
            if self._closed:
                return False
            self._closed = True
            self._given.put(None)
        self._thread.join()
        return True

    def _give(self, given: Request | Callable[[], None]) -> None:
        with self._giving:  # nothing comes behind the end
            if self._closed:
                raise EngineError(_CLOSED)
            self._given.put(given)

    def _work(self) -> None:
        busy = False
        while self._receive(wait=not busy):
            try:
                busy = self._batch.advance()
            except Exception as error:
                self._batch.fail(_defect(error))
                busy = False
        self._batch.fail(EngineError(_CLOSED))

    def _receive(self, *, wait: bool) -> bool:
        """Take what was given, and `wait` for it where there is nothing else to do; False at the end."""
        try:
            while (given := self._given.get(block=wait)) is not None:
                wait = False
                if callable(given):
                    given()
                    continue
                try:
                    self._batch.add(given)
                except Exception as error:  # nobody else must suffer from it
                    given.tell(_defect(error))
        except queue.Empty:
            return True
        return False


def _defect(error: Exception) -> EngineError:
    """The sentence for an error that nobody foresaw; what it says may name files, and is its cause alone."""
    defect = EngineError(f"The model's thread failed ({type(error).__name__}). This is a defect of chatcli.")
    defect.__cause__ = error
    return defect


def open_concurrent(
    checkpoint: Checkpoint, table: Table, report: Report, request: LoadRequest = NOTHING_SAID
) -> ConcurrentEngine:
    """Load `checkpoint` as `open_local` does, for many who ask at once.

    Raises:
        ModelError: it does not chat, is damaged, or needs code of its own.
        OutOfMemory: it does not fit.
    """
    return ConcurrentEngine(open_local(checkpoint, table, report, request))
