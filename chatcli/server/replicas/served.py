"""Models behind replicas, as the server sees them: each is `Served`, and none says which replica answers.

What a replica says comes through Ray Serve's handle, whose router chooses the replica. One that dies before anything
of its answer was shown is not noticed: the request goes to another.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, cast

from chatcli.conversation import Conversation
from chatcli.errors import EngineError
from chatcli.generation import EngineFacts, Event, GenerationSettings, Made, Progress, Reasoning, Text, ToolCalled
from chatcli.wire import Failure

TRIES = 3
"""Replicas that a request is sent to, one after another, while they die before they have shown anything."""
POLL_SECONDS = 0.1
"""While nothing comes the reader hears as much so often, and may leave."""


class ReplicaLost(Exception):
    """The replica that a request was sent to is no more."""


class Loop:
    """An asyncio loop in a thread, in which the answers of all replicas are read."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()

    def events(self, ask: Any, *given: object) -> Generator[Any]:
        """What a streaming method of the handle says; while it says nothing, that it waits.

        Raises:
            ReplicaLost: the replica died, or its machine.
            ChatcliError: the model's engine raised it.
        """
        come: queue.SimpleQueue[list[Made | Failure] | Exception | None] = queue.SimpleQueue()
        reading = asyncio.run_coroutine_threadsafe(_read(ask, given, come), self._loop)
        try:
            while True:
                try:
                    said = come.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    yield Progress("waiting")
                    continue
                if said is None:
                    return
                if isinstance(said, Exception):
                    raise _meant(said) from said
                for event in said:
                    if isinstance(event, Failure):
                        raise event.error
                    yield event
        finally:
            reading.cancel()

    def close(self) -> None:
        """Break off what is under way, and end the thread: nothing asks Ray for anything from now on."""
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_break_off(), self._loop).result(POLL_SECONDS * 50)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(POLL_SECONDS * 50)


async def _break_off() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _read(ask: Any, given: Sequence[object], come: queue.SimpleQueue[Any]) -> None:
    """Ask, and pass on what is said; whoever cancels this has the replica stop, too."""
    answer = None
    try:
        answer = ask.remote(*given)
        async for said in answer:
            come.put(said)
        come.put(None)
    except Exception as error:
        come.put(error)
    finally:
        if answer is not None:
            answer.cancel()


def _meant(error: Exception) -> Exception:
    """What an error of Ray's means to a request."""
    from ray.exceptions import RayError, RayTaskError

    if isinstance(error, RayTaskError):
        return EngineError(f"The replica failed: {str(error.cause).splitlines()[0]}")
    return ReplicaLost(str(error)) if isinstance(error, RayError) else error


class ReplicatedModel:
    """One model that replicas hold; `handle` is Ray Serve's, which asks for this model."""

    def __init__(self, name: str, handle: Any, loop: Loop, facts: EngineFacts) -> None:
        self._name = name
        self._handle = handle
        self._loop = loop
        self.facts = facts

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer as the model's engine does, on the replica that has read most of the conversation already.

        Raises:
            EngineError: the replica died in the middle of its answer, or one after another did before.
            ChatcliError: whatever the engine raises.
        """
        yield from self._answer("stream", conversation, settings)

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with bare text or ids; see `stream`."""
        yield from self._answer("complete", prompt if isinstance(prompt, str) else tuple(prompt), settings)

    def embed(self, texts: Sequence[str]) -> Generator[Made]:
        """The vectors of the texts; see `stream`."""
        yield from self._answer("embed", tuple(texts))

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text."""
        return cast("list[int]", self._ask("tokenize", text))

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return cast(str, self._ask("detokenize", list(ids)))

    def close(self) -> None:
        """Nothing: the replicas end with their cluster."""

    def _answer(self, method: str, *given: object) -> Generator[Any]:
        ask = self._handle.options(stream=True, method_name=method)
        for _ in range(TRIES):
            shown = False
            try:
                for event in self._loop.events(ask, self._name, *given):
                    shown = shown or isinstance(event, Text | Reasoning | ToolCalled)
                    yield event
                return
            except ReplicaLost:
                if shown:
                    raise EngineError(
                        f"The replica of {self._name} that was answering ended in the middle; ask again."
                    ) from None
            yield Progress("waiting")
        raise EngineError(f"{TRIES} replicas of {self._name} ended one after another before they answered; ask later.")

    def _ask(self, what: str, *given: object) -> object:
        from ray.exceptions import RayError, RayTaskError

        ask = self._handle.options(method_name="ask")
        for _ in range(TRIES):
            with suppress(RayError, CancelledError):
                try:
                    said = ask.remote(self._name, what, *given).result()
                except RayTaskError as error:
                    raise _meant(error) from error
                if isinstance(said, Failure):
                    raise said.error
                return said
        raise EngineError(f"No replica of {self._name} answers; ask later.")
