"""Files that arrive beside the caller, who reports what comes and gives up when nothing does.

huggingface_hub and modelscope_hub have no deadline for a server that accepts and never answers, so their work runs in
threads and tells of every byte. This module knows no source, no cache and no model.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from chatcli.errors import ChatcliError, ModelUnreachable
from chatcli.generation import Part, Progress

ANSWER_SECONDS = 10.0
"""How long a source may take to say what a repository holds."""
STALL_SECONDS = 30.0
"""How long a download may go without a byte."""
STREAMS = 4
"""Files that are fetched at a time."""

Report = Callable[[Progress], None]
_Result = TypeVar("_Result")


class Stopped(BaseException):
    """Ends a transfer that nobody waits for any more."""


class Source(Protocol):
    """Where files come from: what to call it, and what its errors mean."""

    title: str

    def explained(self, error: BaseException) -> ChatcliError:
        """One sentence for whatever the transfer ended with."""


class Transfer:
    """What the threads of a transfer tell: which files come, and every piece of them that has arrived."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.stopped = threading.Event()
        self._events: queue.Queue[tuple[str, int] | float | str | BaseException | None] = queue.Queue()
        self._here: dict[str, int] = {}

    def begin(self, sizes: Mapping[str, int], here: Mapping[str, int]) -> None:
        """These files come, in bytes; of some a part, or all, is `here` already."""
        self.sizes, self._here = dict(sizes), dict(here)
        self._events.put(("", 0))

    def arrived(self, name: str, count: int) -> None:
        """Bytes of a file; of 0 bytes it is a sign of life.

        Raises:
            Stopped: nobody waits for them.
        """
        if self.stopped.is_set():
            raise Stopped
        self._events.put((name, count))

    def say(self, sentence: str) -> None:
        """Tell the caller of a choice that was made."""
        self._events.put(sentence)

    def pause(self, seconds: float) -> None:
        """Wait, as the source asks; the caller is patient meanwhile."""
        self._events.put(seconds)
        if self.stopped.wait(seconds):
            raise Stopped

    def watch(self, work: Callable[[], _Result], report: Report, source: Source) -> _Result:
        """What `work` returns, done in a thread that does not keep the process alive.

        Raises:
            ModelUnreachable: the source says nothing any more.
            ChatcliError: whatever `source` makes of an error.
        """
        result: list[_Result] = []

        def run() -> None:
            try:
                result.append(work())
                self._events.put(None)
            except BaseException as error:
                self._events.put(error)

        threading.Thread(target=run, name="download", daemon=True).start()
        report(Progress("asking for its files"))
        try:
            for progress in self._progress(source):
                report(progress)
        finally:
            self.stopped.set()
        return result[0]

    def _progress(self, source: Source) -> Iterator[Progress]:
        patience, arrived = ANSWER_SECONDS, dict[str, int]()
        while True:
            try:
                event = self._events.get(timeout=patience)
            except queue.Empty:
                silence = f"{'sent nothing' if self.sizes else 'did not answer'} for {patience:.0f} seconds"
                raise ModelUnreachable(
                    f"{source.title} {silence}: try again later, or name a model that is on this machine."
                ) from None
            if event is None:
                return
            if isinstance(event, BaseException):
                raise source.explained(event) from event
            if isinstance(event, float):
                patience = event + STALL_SECONDS
                yield Progress("waiting", note=f"{source.title} asks to wait for {event:.0f} seconds.")
                continue
            if isinstance(event, str):
                yield Progress("downloading", note=event)
                continue
            patience, (name, count) = STALL_SECONDS, event
            arrived[name] = arrived.get(name, 0) + count
            yield self._so_far(arrived)

    def _so_far(self, arrived: Mapping[str, int]) -> Progress:
        done = {n: min(self._here.get(n, 0) + arrived.get(n, 0), size) for n, size in self.sizes.items()}
        parts = tuple(Part(n, done[n], size) for n, size in self.sizes.items() if n in arrived and done[n] < size)
        return Progress("downloading", sum(done.values()), sum(self.sizes.values()), "B", parts=parts)

    def fetch_all(self, names: Sequence[str], fetch: Callable[[str], None]) -> None:
        """`fetch` every file, several at a time; the first error ends it."""
        waiting, errors = deque(names), list[BaseException]()

        def work() -> None:
            try:
                while waiting and not errors:
                    fetch(waiting.popleft())
            except IndexError:  # another thread took the last one
                return
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(STREAMS, len(names)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not errors:
                thread.join(0.05)
        if errors:
            raise errors[0]
