"""The forms that an answer can take: text as it comes, text when it is whole, JSON, a file.

It knows streams and files; it knows no model and no question.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import Event, Finished, Progress
from chatcli.render.answer import show_answer
from chatcli.render.progress import ProgressLine
from chatcli.render.structured import answer_object, event_object
from chatcli.session import Session

BETWEEN = "---"
"""The line between several answers that are printed as text."""

Show = Callable[[Iterable[Event], Session], Finished | None]


@dataclass(frozen=True, slots=True)
class Form:
    """How answers are written, and the file that they go to, if any."""

    kind: Literal["stream", "whole", "json", "jsonl"]
    output: str = ""

    @classmethod
    def of(cls, *, as_json: bool, as_jsonl: bool, whole: bool, output: str) -> Form:
        """The form that the flags ask for.

        Raises:
            UsageError: they contradict each other.
        """
        if as_json and as_jsonl:
            raise UsageError("An answer has one form: --json (one object) or --jsonl (an object an event).")
        return cls("jsonl" if as_jsonl else "json" if as_json else "whole" if whole or output else "stream", output)

    @property
    def structured(self) -> bool:
        """Whether programs read it."""
        return self.kind in ("json", "jsonl")

    @contextmanager
    def writing(self, environment: Environment) -> Generator[Show]:
        """A function that writes one answer after another; a file appears when all of them are whole."""
        if not self.output:
            yield self._show(environment)
            return
        target = Path(self.output).expanduser()
        gathered = replace(environment, stdout=io.StringIO())
        yield self._show(gathered)
        assert isinstance(gathered.stdout, io.StringIO)
        write_whole(target, gathered.stdout.getvalue())

    def _show(self, environment: Environment) -> Show:
        shown: list[dict[str, object]] = []

        def text(events: Iterable[Event], session: Session) -> Finished | None:
            if shown:
                print(f"\n{BETWEEN}\n", file=environment.stdout)
            shown.append({})
            return show_answer(events if self.kind == "stream" else _gathered(events, environment), environment)

        def objects(events: Iterable[Event], session: Session) -> Finished | None:
            told = list(_gathered(events, environment))
            shown.append(answer_object(told, session.engine.facts, session.settings_in_force(), session.id))
            print(json.dumps(shown[-1], ensure_ascii=False), file=environment.stdout, flush=True)
            return _finished(told)

        def lines(events: Iterable[Event], session: Session) -> Finished | None:
            finished, stage = None, ""
            for event in events:
                if isinstance(event, Progress):
                    if event.stage == stage and not event.note:
                        continue
                    stage = event.stage
                told = event_object(event)
                if isinstance(event, Finished):
                    finished = event
                    told |= {"model": session.engine.facts.model, "conversation": session.id}
                print(json.dumps(told, ensure_ascii=False), file=environment.stdout, flush=True)
            return finished

        return {"json": objects, "jsonl": lines}.get(self.kind, text)


def _gathered(events: Iterable[Event], environment: Environment) -> Iterable[Event]:
    """All events at their end, with progress on the way."""
    progress = ProgressLine(environment)
    told: list[Event] = []
    try:
        for event in events:
            if isinstance(event, Progress):
                progress.show(event)
            else:
                told.append(event)
    finally:
        progress.clear()
    return told


def _finished(events: Iterable[Event]) -> Finished | None:
    return next((event for event in events if isinstance(event, Finished)), None)


def write_whole(target: Path, text: str) -> None:
    """Write a file in one step, so that nobody ever sees half of it.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
            Path(name).chmod(mode)
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}.") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
