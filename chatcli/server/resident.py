"""The process in which a model stays: `python -m chatcli.server.resident SOCKET DESCRIPTOR`, its `Spec` on stdin.

It serves one request at a time, in the order in which they came, and leaves when nobody has asked for a while, when
it is told to, or when memory gets short. It knows the protocol and an engine; who starts it is `engines.resident`.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli import sockets
from chatcli.engines.resident import fits, make_room, specified
from chatcli.errors import ChatcliError, EngineError
from chatcli.generation import Engine, Progress
from chatcli.server.connection import Connection
from chatcli.streaming.sanitize import sanitize
from chatcli.wire import Ask, Count, Failure, GetStatus, Open, Prepare, Ready, Spec, Status, Stop, Tokens, decode

if TYPE_CHECKING:
    from chatcli.engines.local import LocalEngine

Report = Callable[[Progress | Failure], None]
FIRST_KEEP_ALIVE = 300.0
"""Seconds until the first request says how long."""
_TICK = 1.0
_TALKS = 64
_SHORT_OF_MEMORY = 0.03
"""Share of the main memory that must stay free, or an idle model leaves."""


class Resident:
    """One model, its queue of requests, and its clock."""

    def __init__(self, spec: Spec, path: Path) -> None:
        self._spec = spec
        self._path = path
        self._engine: LocalEngine | None = None
        self._talks: dict[str, Engine] = {}
        self._jobs: queue.SimpleQueue[tuple[Connection, Ask | Prepare] | None] = queue.SimpleQueue()
        self._waiting: list[Connection] = []
        self._opening: list[Connection] = []
        self._lock = threading.Lock()
        self._answering = False
        self._loaded, self._stopping = threading.Event(), threading.Event()
        self._keep_alive = FIRST_KEEP_ALIVE
        self._used = time.monotonic()

    def accept(self, listener: socket.socket) -> None:
        """Take clients, for ever; in a thread of its own."""
        while True:
            try:
                Connection(listener.accept()[0], self._receive)
            except OSError:  # too many files are open, or a client has gone already
                time.sleep(_TICK / 10)

    def load(self, open_engine: Callable[[Report], LocalEngine]) -> None:
        """Open the engine, telling everybody who waits; in a thread of its own, for nothing ends it."""
        try:
            engine = open_engine(self._tell_waiting)
        except ChatcliError as error:
            self._tell_waiting(Failure.of(error))
        except Exception as error:
            self._tell_waiting(Failure.of(_defect(error)))
        else:
            self._hold(engine)
        self._loaded.set()

    def _hold(self, engine: LocalEngine) -> None:
        with self._lock:
            self._engine = engine
            for client in self._opening:
                client.send(engine.facts)
                client.finish()
            self._opening.clear()
        self._used = time.monotonic()

    def work(self) -> None:
        """Serve the queue, once the engine is there, until it is time to leave."""
        self._loaded.wait()
        while self._engine and not self._stopping.is_set():
            try:
                job = self._jobs.get(timeout=_TICK)
            except queue.Empty:
                if self._remaining() <= 0 or _memory_is_short() or not self._path.exists():  # nobody could ask
                    return
                continue
            if job:
                if not job[0].gone.is_set():
                    self._answering = True
                    if not self._answer(*job):
                        return
                    self._used = time.monotonic()
                    self._answering = False
                self._waiting.remove(job[0])

    def stop(self) -> None:
        """Let `work` end as soon as the step under way is done; a model that is still loading is given up."""
        self._stopping.set()
        self._loaded.set()
        self._jobs.put(None)

    def leave(self) -> None:
        """Let everybody go who waits: with a word where the process was stopped; else they start another."""
        if self._stopping.is_set():
            self._tell_waiting(Failure.of(EngineError(f"The process that holds {self._spec.name} was stopped.")))
        for client in (*self._waiting, *self._opening):
            client.finish()
            client.gone.wait(_TICK)

    def _receive(self, client: Connection, request: object) -> None:
        """Answer at once what needs no model, and queue the rest."""
        match request:
            case Open():
                self._keep_alive, self._used = request.keep_alive, time.monotonic()
                self._open(client)
                return
            case Ask():
                self._keep_alive = request.keep_alive
                client.send(Progress("waiting" if self._answering else "starting"))
                self._queue(client, request)
                return
            case Prepare():
                self._queue(client, request)
                return
            case Count(conversation):
                client.send(Tokens(self._engine.count(conversation) if self._engine else 0))
            case GetStatus():
                client.send(self._status())
            case Stop(if_idle):
                with self._lock:
                    status = self._status()
                    client.send(status)
                    if not if_idle or status.state == "idle":
                        self.stop()
                        return  # its end tells the client
        client.finish()

    def _queue(self, client: Connection, request: Ask | Prepare) -> None:
        """Have it served in its turn; who comes too late is let go at once, and starts another process."""
        with self._lock:
            if not self._stopping.is_set():
                self._waiting.append(client)
                self._jobs.put((client, request))
                return
        client.finish()

    def _open(self, client: Connection) -> None:
        with self._lock:
            if self._engine:
                client.send(self._engine.facts)
                client.finish()
            else:
                self._opening.append(client)

    def _answer(self, client: Connection, request: Ask | Prepare) -> bool:
        """Serve one request; False where the engine can no more be relied on."""
        sound = True
        engine = self._talk(request.talk)
        ahead = isinstance(request, Prepare)
        call = engine.prepare if ahead else engine.stream
        try:
            with closing(call(request.conversation, request.settings)) as events:
                for event in events:
                    client.send(event)
                    if client.gone.is_set() or (ahead and not self._jobs.empty()):
                        break
                    if self._stopping.is_set():
                        raise EngineError(f"{self._spec.name} was stopped in the middle of its answer.")
            if ahead:
                client.send(Ready())
        except ChatcliError as error:
            client.send(Failure.of(error))
        except Exception as error:
            client.send(Failure.of(_defect(error)))
            sound = False
        client.finish()
        if self._stopping.is_set() or not sound:
            client.gone.wait(_TICK)  # the process ends, and with it what was not sent yet
        return sound

    def _talk(self, name: str) -> Engine:
        """The talk's own engine over the one model; the oldest are forgotten."""
        assert self._engine
        engine = self._talks.pop(name, None) or self._engine.another_talk()
        self._talks[name] = engine
        if len(self._talks) > _TALKS:
            del self._talks[next(iter(self._talks))]
        return engine

    def _tell_waiting(self, said: Progress | Failure) -> None:
        with self._lock:
            for client in (*self._waiting, *self._opening):
                client.send(said)

    def _remaining(self) -> float:
        return self._used + self._keep_alive - time.monotonic()

    def _status(self) -> Status:
        """Of a model that is loading, its name; of one that is there, what it takes and since when it rests."""
        state = "loading" if not self._engine else "answering" if self._waiting else "idle"
        status = Status(self._spec.name, self._spec.version, os.getpid(), state, waiting=len(self._waiting))
        if not self._engine:
            return status
        return replace(
            status,
            device=self._engine.facts.device,
            precision=self._engine.facts.precision,
            bytes=_memory(),
            idle=0.0 if self._waiting else time.monotonic() - self._used,
            remaining=max(self._remaining(), 0.0),
        )


def _defect(error: Exception) -> EngineError:
    """The sentence for an error that nobody foresaw; where it was goes to the log."""
    traceback.print_exception(error)
    return EngineError(
        f"unexpected {type(error).__name__}: {sanitize(str(error), single_line=True)}. This is a defect of chatcli; "
        "--keep-alive 0 --debug shows where."
    )


def _memory() -> int:
    """Bytes that this process takes, of main memory and of GPUs."""
    import psutil

    main = int(psutil.Process().memory_info().rss)
    if "torch" not in sys.modules:  # an engine that computes elsewhere; importing it takes longer than who asks waits
        return main
    from chatcli.runtime.devices import taken

    return main + taken()


def _memory_is_short() -> bool:
    import psutil

    memory = psutil.virtual_memory()
    return bool(memory.available < _SHORT_OF_MEMORY * memory.total)


def _open(spec: Spec, path: Path, report: Report) -> LocalEngine:
    """Open the model; others that nobody is using leave where it does not fit beside them."""
    from chatcli.adapters.table import load_table
    from chatcli.engines.local import open_local
    from chatcli.environment import real_environment

    table = load_table(real_environment().config_folder)
    checkpoint = specified(spec)
    make_room(path.parent, lambda: fits(checkpoint, spec.request), spec.name, but=path)
    return open_local(checkpoint, table, report, spec.request)


def main() -> None:
    """Serve the socket that was handed over until it is time to leave."""
    path, listener = Path(sys.argv[1]), sockets.take_over(int(sys.argv[2]))
    spec = decode(sys.stdin.buffer.readline())
    held = Resident(spec, path)
    signal.signal(signal.SIGTERM, lambda signum, frame: held.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=held.accept, args=(listener,), daemon=True).start()
    threading.Thread(target=held.load, args=(lambda report: _open(spec, path, report),), daemon=True).start()
    held.work()
    _take_away(path)
    held.leave()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's clean-up costs torch a second


def _take_away(path: Path) -> None:
    """Remove the socket, so that who comes now starts another process; not one that another has put there since."""
    if not path.exists():
        return
    with sockets.alone(path.parent):
        connection = sockets.connect(path)
        if connection is None:
            return
        with closing(connection):
            other = sockets.peer(connection)
        if other is None or other[0] == os.getpid():
            path.unlink(missing_ok=True)
            path.with_suffix(".log").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
