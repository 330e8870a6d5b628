"""What runs in a replica's process: engines of some models, asked by many requests at once.

It knows no HTTP, no router and no Ray: `deployment` makes a class of Ray Serve's of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar
from weakref import WeakSet

from chatcli.conversation import Conversation
from chatcli.errors import ChatcliError, EngineError
from chatcli.generation import EngineFacts, Event, GenerationSettings
from chatcli.server.api.served import Served
from chatcli.server.replicas.gathering import gathered
from chatcli.wire import Failure

Said: TypeAlias = Event | Failure
Lists: TypeAlias = AsyncGenerator[list[Said]]
Result = TypeVar("Result")

STUCK_SECONDS = 300.0
"""An engine that is asked and says nothing new for so long is replaced."""
_POLL = 0.05


class Holding:
    """A model that this replica holds, and how it is doing. `asked` counts the requests that are under way."""

    def __init__(self, engine: Served) -> None:
        self.engine = engine
        self.asked = 0
        self._heard = time.monotonic()
        self._defect = ""

    def told(self, events: Generator[Event]) -> Generator[Said]:
        """The events, and the error they end in as a value; what nobody foresaw makes this holding unfit."""
        latest: Event | None = None
        try:
            for event in events:
                if event != latest:  # one that waits says the same again and again
                    self._heard = time.monotonic()
                latest = event
                yield event
        except ChatcliError as error:
            yield Failure.of(error)
        except Exception as error:
            self._defect = f"{type(error).__name__}: {error}"
            yield Failure.of(EngineError(f"The model failed unexpectedly ({self._defect}); its replica is replaced."))
        finally:
            events.close()

    def require_well(self) -> None:
        """Raise where this engine can no more be relied on."""
        if self._defect:
            raise RuntimeError(self._defect)
        if self.asked and time.monotonic() - self._heard > STUCK_SECONDS:
            raise RuntimeError(f"{self.engine.facts.model} has said nothing for {STUCK_SECONDS:.0f} s.")

    def __del__(self) -> None:
        """Close behind the last request: Ray Serve calls this where another model needs the room, Python at the end."""
        while self.asked:
            time.sleep(_POLL)
        self.engine.close()


class Replica:
    """Answers requests for the models that `open_served` opens by their names; `places` is how many at a time."""

    def __init__(self, open_served: Callable[[str], Served], places: int) -> None:
        self._open = open_served
        self._pool = ThreadPoolExecutor(places + 4, thread_name_prefix="answer")  # some for questions beside answers
        self._holdings: WeakSet[Holding] = WeakSet()

    async def model(self, name: str) -> Holding:
        """The model of this name, opened where it is not; which ones are kept is said where this is overridden."""
        holding = Holding(await self._in_thread(self._open, name))
        self._holdings.add(holding)
        return holding

    async def stream(self, name: str, conversation: Conversation, settings: GenerationSettings) -> Lists:
        """`Served.stream`, some events at a time."""
        async for said in self._answer(name, lambda engine: engine.stream(conversation, settings)):
            yield said

    async def complete(self, name: str, prompt: str | Sequence[int], settings: GenerationSettings) -> Lists:
        """`Served.complete`, some events at a time."""
        async for said in self._answer(name, lambda engine: engine.complete(prompt, settings)):
            yield said

    async def embed(self, name: str, texts: Sequence[str]) -> Lists:
        """`Served.embed`, some events at a time."""
        async for said in self._answer(name, lambda engine: engine.embed(texts)):
            yield said

    async def ask(self, name: str, what: str, *given: object) -> object:
        """What the model's own method of this name returns, or the failure that it raises."""
        holding = await self.model(name)
        holding.asked += 1
        try:
            return await self._in_thread(getattr(holding.engine, what), *given)
        except ChatcliError as error:
            return Failure.of(error)
        finally:
            holding.asked -= 1

    async def facts(self, name: str) -> EngineFacts:
        """What is known of the model."""
        return (await self.model(name)).engine.facts

    async def check_health(self) -> None:
        """Raise where this replica should be replaced; Ray Serve asks."""
        for holding in self._holdings:
            holding.require_well()

    async def _answer(self, name: str, call: Callable[[Served], Generator[Event]]) -> Lists:
        holding = await self.model(name)
        holding.asked += 1
        try:
            async for said in gathered(lambda: holding.told(call(holding.engine)), self._pool):
                yield said
        finally:
            holding.asked -= 1

    async def _in_thread(self, call: Callable[..., Result], *given: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *given)
