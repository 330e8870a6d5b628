"""An engine that is still being made, behind a person's typing.

A thread opens the real engine at once; `stream` waits for it, telling what is under way. It knows
nothing of what is opened. The wait is on an Event and in short steps: Ctrl-C gets through, and
`Thread.join(timeout)`, which a Ctrl-C breaks on Python 3.11, is never called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator

from chatcli.conversation import Conversation
from chatcli.generation import Engine, EngineFacts, Event, GenerationSettings, Progress

POLL_SECONDS = 0.05

Report = Callable[[Progress], None]


class DeferredEngine:
    """Opens an engine with `open_engine(report)` in a thread that starts now.

    `progress` is the latest report, None once the engine is there. The thread is a daemon: leaving the
    program does not wait for it.
    """

    def __init__(self, open_engine: Callable[[Report], Engine], *, name: str = "") -> None:
        self._open = open_engine
        self._name = name
        self._done = threading.Event()
        self._engine: Engine | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._progress = Progress("starting")
        self._notes: deque[Progress] = deque()
        threading.Thread(target=self._run, name="open-engine", daemon=True).start()

    @property
    def facts(self) -> EngineFacts:
        """The engine's own facts; before it is there, the name alone."""
        return self._engine.facts if self._engine else EngineFacts(self._name)

    @property
    def progress(self) -> Progress | None:
        """What is under way, or None when the engine is ready or has failed."""
        return None if self._done.is_set() else self._progress

    @property
    def error(self) -> BaseException | None:
        """Why opening failed, where it did."""
        return self._error

    def wait(self) -> Generator[Progress, None, Engine]:
        """Yield what is under way until the engine is there, then what people must know of it, once.

        Returns the engine, or raises what opening it raised.
        """
        while not self._done.wait(POLL_SECONDS):
            yield self._progress
        while self._notes:
            yield self._notes.popleft()
        if self._error:
            raise self._error
        assert self._engine is not None
        return self._engine

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Wait for the engine, then answer with it."""
        engine = yield from self.wait()
        yield from engine.stream(conversation, settings)

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Let the engine read ahead, once it is there."""
        if self._engine:
            yield from self._engine.prepare(conversation, settings)

    def count(self, conversation: Conversation) -> int:
        """The engine's own count; 0 before it is there."""
        return self._engine.count(conversation) if self._engine else 0

    def close(self) -> None:
        """Close the engine, now or as soon as it is there."""
        self._closed = True
        if self._engine:
            self._engine.close()

    def _run(self) -> None:
        try:
            engine = self._open(self._report)
            if self._closed:
                engine.close()
            self._engine = engine
        except BaseException as error:  # carried over to the thread that asks
            self._error = error
        finally:
            self._done.set()

    def _report(self, progress: Progress) -> None:
        if progress.note:
            self._notes.append(progress)
        else:
            self._progress = progress
