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
    last = ""
    thought = False
    try:
        for event in events:
            match event:
                case Progress():
                    progress.show(event)
                case Reasoning(piece) if thinking:
                    progress.clear()
                    err.write(_dim(piece, environment))
                    err.flush()
                    thought = True
                case Text(piece):
                    progress.clear()
                    if thought:
                        err.write("\n\n")
                        err.flush()
                        thought = False
                    out.write(piece)
                    out.flush()
                    last = piece
                case Finished():
                    finished = event
    finally:
        progress.clear()
        if thought:
            err.write("\n")
        if last and not last.endswith("\n"):
            out.write("\n")
        out.flush()
    return finished


def _dim(text: str, environment: Environment) -> str:
    return f"\x1b[2m{text}\x1b[22m" if environment.color else text
