"""A chat with a scripted engine, run as a program: what tests in a real terminal talk to.

Usage: scripted_chat.py [--fail SECONDS | --load SECONDS | --stuck | --chinese]; settings and history are below
CHATCLI_HOME. /model other loads for half a second; /model broken fails after it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import real_environment
from chatcli.errors import EngineError, ModelNotFound
from chatcli.generation import Engine, EngineFacts, Event, GenerationSettings, Progress, Text
from chatcli.history.store import Store
from chatcli.repl.loop import chat
from chatcli.session import Session

LONG = " ".join(f"word{n}" for n in range(1, 200))
SCRIPTS = [
    LONG,
    "Second answer.",
    "你好，北京是中国的首都。",
    [Text("Half an "), EngineError("The engine broke; ask again.")],
    [EngineError("The engine broke at once; ask again.")],
    "Sixth answer.",
]


CHINESE = " ".join("北京是中国的首都，有三千多年的历史。" for _ in range(10))


class Stuck(list[Event]):
    """A reply that does not come back between two pieces, as in a long forward pass."""

    def __iter__(self) -> Iterator[Event]:
        yield Text("A first piece ")
        yield Text("and a second")
        time.sleep(60)


def main() -> int:
    environment = real_environment()
    store = Store.open(environment.data_folder / "history.db", environment.now)
    engine: Engine = ScriptedEngine(SCRIPTS, seconds_per_piece=0.03)
    if sys.argv[1:] == ["--stuck"]:
        engine = ScriptedEngine([Stuck()])
    elif sys.argv[1:] == ["--chinese"]:
        engine = ScriptedEngine([CHINESE], seconds_per_piece=0.02)
    elif len(sys.argv) > 1:
        engine = DeferredEngine(lambda report: _open(report, engine_after=ready), name="owner/slow-model")
    return chat(Session(engine, GenerationSettings(), store), environment, open_model=_other)


class Other(ScriptedEngine):
    """Another model, with another name."""

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts("other", device="cpu", precision="float32", context=4096)


def _other(name: str) -> Engine:
    def open_engine(report: Report) -> Engine:
        report(Progress("loading", 1, 2, "B"))
        time.sleep(0.5)
        if name == "broken":
            raise ModelNotFound("There is no model broken; see that its name is right.")
        return Other(["The other model speaks."])

    return DeferredEngine(open_engine, name=name)


ready = ScriptedEngine(SCRIPTS, seconds_per_piece=0.03)


def _open(report: Report, engine_after: Engine) -> Engine:
    begun = time.monotonic()
    while time.monotonic() - begun < float(sys.argv[2]):
        report(Progress("loading", int((time.monotonic() - begun) * 1e8), 3 << 30, "B"))
        time.sleep(0.02)
    if sys.argv[1] == "--fail":
        raise ModelNotFound("There is no model owner/slow-model; see that its name is right.")
    return engine_after


if __name__ == "__main__":
    sys.exit(main())
