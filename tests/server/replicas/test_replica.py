"""A replica's own process, without Ray: engines, errors and health."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence

import pytest

from chatcli.conversation import Conversation, Message
from chatcli.engines.scripted import ScriptedEngine
from chatcli.errors import EngineError, UsageError
from chatcli.generation import Event, Finished, GenerationSettings, Made, Text
from chatcli.server.replicas import replica as replica_module
from chatcli.server.replicas.replica import Holding, Replica, Said
from chatcli.wire import Failure

ASKED = Conversation((Message("user", "Hello?"),))


class Scripted(ScriptedEngine):
    """A scripted engine as the server sees models."""

    closed = False

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        yield from self.stream(ASKED, settings)

    def tokenize(self, text: str) -> list[int]:
        if not text:
            raise UsageError("The text is empty.")
        return [len(word) for word in text.split()]

    def detokenize(self, ids: Sequence[int]) -> str:
        return " ".join("x" * each for each in ids)

    def embed(self, texts: Sequence[str]) -> Generator[Made]:
        raise UsageError("No vectors.")

    def close(self) -> None:
        self.closed = True


async def answer(replica: Replica) -> list[Said]:
    return [said async for some in replica.stream("m", ASKED, GenerationSettings()) for said in some]


def test_it_answers_and_says_what_it_is_asked() -> None:
    async def ask() -> None:
        replica = Replica(lambda name: Scripted(["Hello to you."]), 2)
        said = await answer(replica)
        assert "".join(each.text for each in said if isinstance(each, Text)) == "Hello to you."
        assert isinstance(said[-1], Finished)
        assert await replica.ask("m", "tokenize", "a bc") == [1, 2]
        assert await replica.ask("m", "tokenize", "") == Failure("UsageError", "The text is empty.")
        assert (await replica.facts("m")).model == "scripted"
        await replica.check_health()

    asyncio.run(ask())


def test_an_error_of_the_engine_travels_as_a_value_and_makes_nobody_ill() -> None:
    async def ask() -> None:
        replica = Replica(lambda name: Scripted([[Text("Hi"), EngineError("Out of luck.")]]), 2)
        holding = await replica.model("m")
        replica.model = lambda name: asyncio.sleep(0, holding)  # type: ignore[method-assign]  # as Ray Serve keeps it
        assert await answer(replica) == [Text("Hi"), Failure("EngineError", "Out of luck.")]
        await replica.check_health()

    asyncio.run(ask())


def test_a_defect_makes_the_replica_unfit() -> None:
    async def ask() -> None:
        replica = Replica(lambda name: Scripted([[Text("Hi"), ZeroDivisionError("by zero")]]), 2)
        holding = await replica.model("m")
        replica.model = lambda name: asyncio.sleep(0, holding)  # type: ignore[method-assign]
        said = await answer(replica)
        assert isinstance(said[-1], Failure)
        assert "by zero" in said[-1].text
        with pytest.raises(RuntimeError, match="by zero"):
            await replica.check_health()

    asyncio.run(ask())


def test_an_engine_that_says_nothing_new_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "STUCK_SECONDS", 0.0)
    holding = Holding(Scripted(["Hello."]))
    holding.require_well()  # nobody asks, so nobody waits
    holding.asked = 1
    with pytest.raises(RuntimeError, match="said nothing"):
        holding.require_well()
    holding.asked = 0


def test_a_model_that_makes_room_is_closed_behind_its_last_answer() -> None:
    engine = Scripted(["Hello."])
    holding = Holding(engine)
    holding.asked = 1
    leaving = threading.Thread(target=holding.__del__)
    leaving.start()
    leaving.join(0.2)
    assert not engine.closed
    holding.asked = 0
    leaving.join()
    assert engine.closed
