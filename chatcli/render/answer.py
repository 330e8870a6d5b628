"""One answer for `ask`: text on standard output, everything else on standard error and only for people.

It knows streams and events; it knows no engine and no history.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatcli.environment import Environment
from chatcli.generation import Event, Finished, Progress, Reasoning, Text
from chatcli.render.progress import ProgressLine


def show_answer(events: Iterable[Event], environment: Environment) -> Finished | None:
    """Write the answer as it comes and end it with a newline; returns how it ended.

    Reasoning goes to standard error, dim, where a person reads there.
    """
    out, err = environment.stdout, environment.stderr
    progress = ProgressLine(environment)
    thinking = environment.stderr_is_terminal
    finished: Finished | None = None
    notes: list[Progress] = []
    written = thought = False
    newlines = ""  # at the end of what came so far: written when more comes, for the answer ends with just one
    try:
        for event in events:
            match event:
                case Progress() if not written and not thought:
                    progress.show(event)
                case Progress(note=note) if note:
                    notes.append(event)  # now it would tear the line that is being written
                case Reasoning(piece) if thinking:
                    progress.clear()
                    err.write(dim(piece, environment))
                    err.flush()
                    thought = True
                case Text(piece):
                    progress.clear()
                    if thought:
                        err.write("\n\n")
                        err.flush()
                        thought = False
                    text = (newlines + piece).rstrip("\n")
                    newlines = (newlines + piece)[len(text) :]
                    out.write(text)
                    out.flush()
                    written = written or bool(text)
                case Finished():
                    finished = event
    finally:
        progress.clear()
        if thought:
            err.write("\n")
        if written:
            out.write("\n")
        out.flush()
        for event in notes:
            progress.show(event)
    return finished


def dim(text: str, environment: Environment) -> str:
    """`text` in faint letters, where colour is welcome."""
    return f"\x1b[2m{text}\x1b[22m" if environment.color else text
