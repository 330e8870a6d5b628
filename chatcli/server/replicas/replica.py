"""What runs in a replica's process: engines of some models, asked by many requests at once.

Ray Serve makes one `Replica` a process, asks it whether it is well, and closes it. It knows no HTTP and no router;
Ray comes in only with the decorator that `deployment` puts on `model`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from chatcli.conversation import Conversation
from chatcli.errors import ChatcliError, EngineError
from chatcli.generation import EngineFacts, Event, GenerationSettings
from chatcli.server.api.served import Served
from chatcli.server.replicas.gathering import gathered
from chatcli.wire import Failure

Said: TypeAlias = "list[Event | Failure]"

STUCK_SECONDS = 300.0
"""An engine that is asked and says nothing for so long is replaced; the longest prompt on a CPU says something."""


class Holding:
    """One model in this replica, and how it is doing."""

    def __init__(self, engine: Served) -> None:
        self.engine = engine
        self.running = 0
        self.heard = time.monotonic()
        self.defect = ""

    def watched(self, events: Generator[Event]) -> Generator[Event]:
        """Pass the events on, noting that they come."""
        self.running += 1
        try:
            for event in events:
                self.heard = time.monotonic()
                yield event
        except ChatcliError:
            raise
        except Exception as error:
            self.defect = f"{type(error).__name__}: {error}"
            raise EngineError(f"The model failed unexpectedly: {self.defect}. Its replica is replaced.") from error
        finally:
            events.close()
            self.running -= 1

    def require_well(self) -> None:
        """Raise where this engine can no more be relied on."""
        if self.defect:
            raise RuntimeError(self.defect)
        if self.running and time.monotonic() - self.heard > STUCK_SECONDS:
            raise RuntimeError(f"{self.engine.facts.model} has said nothing for {STUCK_SECONDS:.0f} s.")

    def __del__(self) -> None:
        """Close when the last stream is done: Ray calls this to make room for another model, and Python at the end."""
        while self.running:
            time.sleep(0.05)
        self.engine.close()
