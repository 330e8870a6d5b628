"""A chat with a scripted engine, run as a program: what tests in a real terminal talk to.

Usage: scripted_chat.py [--fail | --load | --stuck | --chinese]; settings and history are below CHATCLI_HOME. Nothing in
it ends by the clock: the first reply when there is a file `enough` in CHATCLI_HOME, loading when there is one named
`loaded`. /model other is another model, and /model broken cannot be loaded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from chatcli.conversation import Conversation
from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import real_environment
from chatcli.errors import EngineError, ModelNotFound
from chatcli.generation import Engine, EngineFacts, Event, Finished, GenerationSettings, Progress, Text
from chatcli.history.store import Store
from chatcli.repl.loop import chat
from chatcli.session import Session

SCRIPTS = [
    "Second answer.",
    "你好，北京是中国的首都。",
    [Text("Half an "), EngineError("The engine broke; ask again.")],
    [EngineError("The engine broke at once; ask again.")],
    "Sixth answer.",
]
CHINESE = " ".join("北京是中国的首都，有三千多年的历史。" for _ in range(10))


def there_is(name: str) -> bool:
    """Whether the test has put a file of that name into CHATCLI_HOME."""
    return (Path(os.environ["CHATCLI_HOME"]) / name).exists()


def words(count: int) -> str:
    """So much of the first reply."""
    return " ".join(f"word{n}" for n in range(1, count + 1))


class Talkative(ScriptedEngine):
    """The first reply goes on until it is enough; so does one that is to be gone on with."""

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        begun = conversation.unfinished
        if self.asked and not begun:
            yield from super().stream(conversation, settings)
            return
        self.asked.append(conversation)
        yield Progress("reading", 0, 8, "tokens")
        said = len(begun.text.split()) if begun else 0
        while not there_is("enough"):
            said += 1
            yield Text(f" word{said}" if said > 1 else "word1")
            time.sleep(0.02)
        yield Finished("stop", 8, said)


class Halting(ScriptedEngine):
    """Halts in the middle of its reply until it is enough."""

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        said = 0
        for event in super().stream(conversation, settings):
            yield event
            said += isinstance(event, Text)
            while said > 80 and not there_is("enough"):
                yield Text("")
                time.sleep(0.02)


class Stuck(list[Event]):
    """A reply that does not come back between two pieces, as in a long forward pass."""

    def __iter__(self) -> Iterator[Event]:
        yield Text("A first piece ")
        yield Text("and a second")
        (Path(os.environ["CHATCLI_HOME"]) / "stuck").touch()
        time.sleep(3600)


def main() -> int:
    environment = real_environment()
    store = Store.open(environment.data_folder / "history.db", environment.now)
    engine: Engine = Talkative(SCRIPTS)
    if sys.argv[1:] == ["--stuck"]:
        engine = ScriptedEngine([Stuck()])
    elif sys.argv[1:] == ["--chinese"]:
        engine = Halting([CHINESE])
    elif len(sys.argv) > 1:
        engine = DeferredEngine(_open, name="owner/slow-model")
    return chat(Session(engine, GenerationSettings(), store), environment, open_model=_other)


class Other(ScriptedEngine):
    """Another model, with another name."""

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts("other", device="cpu", precision="float32", context=4096)


def _load(report: Report) -> None:
    done = 0
    while not there_is("loaded"):
        done += 1 << 20
        report(Progress("loading", done, 3 << 30, "B"))
        time.sleep(0.02)


def _other(name: str) -> Engine:
    def open_engine(report: Report) -> Engine:
        _load(report)
        if name == "broken":
            raise ModelNotFound("There is no model broken; see that its name is right.")
        return Other(["The other model speaks."])

    return DeferredEngine(open_engine, name=name)


def _open(report: Report) -> Engine:
    _load(report)
    if sys.argv[1] == "--fail":
        raise ModelNotFound("There is no model owner/slow-model; see that its name is right.")
    return Talkative(SCRIPTS)


if __name__ == "__main__":
    sys.exit(main())
