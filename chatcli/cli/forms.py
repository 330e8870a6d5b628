"""The forms that an answer can take: text as it comes, text when it is whole, JSON, a file.

It knows streams and files; it knows no model and no question.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from chatcli.cli.output import target_of, write_whole
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
    output: Path | None = None

    @classmethod
    def of(cls, *, as_json: bool, as_jsonl: bool, whole: bool, output: str | None) -> Form:
        """The form that the flags ask for; `output` names a file, `-` standard output.

        Raises:
            UsageError: they contradict each other, or the file cannot be written.
        """
        if as_json and as_jsonl:
            raise UsageError("An answer has one form: --json (one object) or --jsonl (an object an event).")
        target = None if output in (None, "-") else target_of(output)
        return cls("jsonl" if as_jsonl else "json" if as_json else "whole" if whole or target else "stream", target)

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
        gathered = replace(environment, stdout=io.StringIO())
        yield self._show(gathered)
        assert isinstance(gathered.stdout, io.StringIO)
        write_whole(self.output, [gathered.stdout.getvalue()])

    def _show(self, environment: Environment) -> Show:
        shown: list[bool] = []

        def text(events: Iterable[Event], session: Session) -> Finished | None:
            if shown:
                print(f"\n{BETWEEN}\n", file=environment.stdout)
            shown.append(True)
            told: list[Event] = []
            if self.kind == "whole":
                _gather(events, told, environment)
            return show_answer(events if self.kind == "stream" else told, environment)

        def objects(events: Iterable[Event], session: Session) -> Finished | None:
            told: list[Event] = []
            try:
                _gather(events, told, environment)
            except KeyboardInterrupt:
                write(told, session)
                raise
            write(told, session)
            return _finished(told)

        def write(told: Iterable[Event], session: Session) -> None:
            answer = answer_object(told, session.engine.facts, session.settings_in_force(), session.id)
            print(json.dumps(answer, ensure_ascii=False), file=environment.stdout, flush=True)

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


def _gather(events: Iterable[Event], told: list[Event], environment: Environment) -> None:
    """Take all events into `told`, with progress on the way."""
    progress = ProgressLine(environment)
    try:
        for event in events:
            if isinstance(event, Progress):
                progress.show(event)
            else:
                told.append(event)
    finally:
        progress.clear()


def _finished(events: Iterable[Event]) -> Finished | None:
    return next((event for event in events if isinstance(event, Finished)), None)
