"""An engine whose model stays in a process of its own, from one call of chatcli to the next.

It finds that process by its socket or starts it, and passes on what it says. It imports no torch; the process
itself is `server.resident`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatcli import __version__, sockets
from chatcli.conversation import Conversation
from chatcli.errors import EngineError, OutOfMemory
from chatcli.generation import EngineFacts, Event, Finished, GenerationSettings, Progress, Reasoning, Text, ToolCalled
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import Checkpoint, LoraFolder, open_checkpoint
from chatcli.wire import (
    Ask,
    Count,
    Failure,
    GetStatus,
    Open,
    Prepare,
    Ready,
    Spec,
    Status,
    Stop,
    Tokens,
    decode,
    encode,
)

POLL_SECONDS = 0.05
_PROMPT_ANSWER = 30.0
"""Seconds in which a process says how it is, whatever it is doing and however busy the machine is."""
_OF_THE_PROCESS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HF_HOME", "HF_HUB_CACHE", "OMP_NUM_THREADS")
"""Variables that make another process of the same model."""

Report = Callable[[Progress], None]


class _Gone(Exception):
    """The process ended before it had said all."""


class ResidentEngine:
    """The model that `spec` describes, in its own process; `open_resident` makes one."""

    def __init__(self, spec: Spec, place: Path, keep_alive: float, facts: EngineFacts) -> None:
        self._spec = spec
        self._place = place
        self._keep_alive = keep_alive
        self._talk = os.urandom(8).hex()
        self.facts = facts

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer as the model's own engine does; a process that has gone is replaced once, if nothing was shown yet.

        Raises:
            EngineError: the process ended in the middle of its answer.
            ChatcliError: whatever the model's own engine raises.
        """
        asked = Ask(self._talk, conversation, settings, self._keep_alive)
        for again in (False, True):
            shown = False
            try:
                with closing(self._events(asked)) as events:
                    for event in events:
                        shown = shown or isinstance(event, Text | Reasoning | ToolCalled)
                        yield event
                return
            except _Gone:
                if shown or again:
                    raise EngineError(
                        f"The process that holds {self._spec.name} ended in the middle of its answer; what was said "
                        "is kept, and the next question starts it again."
                    ) from None
            yield from self._reopened()

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Let the process read ahead; nothing where it has gone."""
        connection = sockets.connect(socket_path(self._place, self._spec))
        if connection is None:
            return
        with sockets.until_left(connection):
            for said in _said(connection, Prepare(self._talk, conversation, settings)):
                if isinstance(said, Ready):
                    return
                yield said

    def count(self, conversation: Conversation) -> int:
        """Tokens of the conversation as a prompt; 0 where the process is busy loading or gone."""
        connection = sockets.connect(socket_path(self._place, self._spec))
        if connection is None:
            return 0
        with sockets.until_left(connection):
            answer = _answer(connection, Count(conversation), _PROMPT_ANSWER)
        return answer.tokens if isinstance(answer, Tokens) else 0

    def close(self) -> None:
        """Nothing: the model stays for whoever asks next."""

    def _events(self, asked: Ask) -> Generator[Event]:
        with sockets.until_left(_connected(self._spec, self._place)) as connection:
            for event in _said(connection, asked):
                yield event
                if isinstance(event, Finished):
                    return
        raise _Gone

    def _reopened(self) -> Generator[Progress]:
        with sockets.until_left(_connected(self._spec, self._place)) as connection:
            for said in _said(connection, Open(self._keep_alive)):
                if isinstance(said, EngineFacts):
                    return
                yield said


def specify(checkpoint: Checkpoint, request: LoadRequest, config_folder: Path, variables: Mapping[str, str]) -> Spec:
    """What a process must hold to be the one that is meant."""
    parts = checkpoint.gguf.files if checkpoint.gguf else (checkpoint.folder,)
    made_of = [*parts, *(lora.folder for lora in checkpoint.loras), config_folder / "adapters.toml"]
    made_of += [each for each in (checkpoint.texts, Path(request.draft) if request.draft else None) if each]
    told = [*map(_state, made_of), sys.executable, *(f"{name}={variables.get(name, '')}" for name in _OF_THE_PROCESS)]
    return Spec(
        checkpoint.name,
        str(parts[0].absolute()),
        checkpoint.revision,
        checkpoint.trusted,
        replace(request, loras=(), subfolder="", revision=""),  # the checkpoint has them
        sockets.name_of("\n".join(told)),
        __version__,
        tuple((lora.name, str(lora.folder.absolute()), lora.scale) for lora in checkpoint.loras),
        str(checkpoint.texts.absolute()) if checkpoint.texts else "",
        checkpoint.base,
    )


def specified(spec: Spec) -> Checkpoint:
    """The checkpoint that `specify` was given, from its files.

    Raises:
        ModelError: they have gone or are damaged.
    """
    return replace(
        open_checkpoint(Path(spec.path), spec.name, spec.revision),
        trusted=spec.trusted,
        loras=tuple(LoraFolder(name, Path(folder), scale) for name, folder, scale in spec.loras),
        texts=Path(spec.texts) if spec.texts else None,
        base=spec.base,
    )


def _state(path: Path) -> str:
    """Names, sizes and times of the files at `path`: what changes when a file does."""
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name) if path.is_dir() else [path]
        found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ""
    return "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in found)


def socket_path(place: Path, spec: Spec) -> Path:
    """Where the process that holds `spec` listens."""
    return place / f"{sockets.name_of(encode(spec).decode('ascii'))}.sock"


def find_resident(spec: Spec, place: Path, keep_alive: float, report: Report) -> ResidentEngine | None:
    """The engine in the process that holds `spec` already; None where there is none.

    Raises:
        ChatcliError: whatever opening the model raised there.
    """
    connection = sockets.connect(socket_path(place, spec))
    return _opened(connection, spec, place, keep_alive, report) if connection else None


def open_resident(spec: Spec, place: Path, keep_alive: float, report: Report) -> ResidentEngine:
    """The engine in the process that holds `spec`, which is started where it is not there.

    Raises:
        ChatcliError: whatever opening the model raised there.
        EngineError: the process ended without a word.
    """
    for _ in range(2):  # one that was just leaving is replaced
        if found := _opened(_connected(spec, place), spec, place, keep_alive, report):
            return found
    raise EngineError(
        f"The process that should hold {spec.name} ended while it started: {socket_path(place, spec).stem}.log in "
        f"{place} may say why; --keep-alive 0 runs the model without such a process."
    )


def _opened(connection: Any, spec: Spec, place: Path, keep_alive: float, report: Report) -> ResidentEngine | None:
    with sockets.until_left(connection):
        for said in _said(connection, Open(keep_alive)):
            if isinstance(said, EngineFacts):
                return ResidentEngine(spec, place, keep_alive, said)
            report(said)
    return None


def _connected(spec: Spec, place: Path) -> Any:
    """A connection to the process that holds `spec`; it is started where nobody listens."""
    path = socket_path(place, spec)
    if connection := sockets.connect(path):
        return connection
    with sockets.alone(place):
        if connection := sockets.connect(path):  # somebody else was quicker
            return connection
        with closing(sockets.listen(path)) as listener:
            _start(spec, path, listener.fileno())
        connection = sockets.connect(path)
    if connection is None:
        raise EngineError(f"{path} cannot be connected to: --keep-alive 0 runs the model without it.")
    return connection


def _start(spec: Spec, path: Path, listener: int) -> None:
    """Start the process behind a socket that already listens; it outlives us and our terminal."""
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chatcli.server.resident", str(path), str(listener)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(listener,),
            start_new_session=True,
            cwd="/",
        )
    assert process.stdin
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(encode(spec))


def _said(connection: Any, asked: object) -> Iterator[Any]:
    """What the other side says, the last progress again while it is silent, so that its reader can leave.

    Raises:
        ChatcliError: the other side raised it.
    """
    latest = Progress("starting")
    with suppress(OSError):
        connection.sendall(encode(asked))
    for line in sockets.lines(connection, POLL_SECONDS):
        if line is None:
            yield latest
            continue
        said = decode(line)
        if isinstance(said, Failure):
            raise said.error
        if isinstance(said, Progress) and not said.note:
            latest = said
        yield said


def _answer(connection: Any, asked: object, seconds: float) -> Any:
    """The one value that answers `asked`; None where none comes in time."""
    with suppress(OSError, ValueError):
        connection.sendall(encode(asked))
        line = next(sockets.lines(connection, seconds), None)
        return decode(line) if line else None
    return None


def statuses(place: Path) -> list[tuple[Path, Status]]:
    """Every resident process, by its socket; sockets without one are taken away."""
    found: list[tuple[Path, Status]] = []
    for path in sockets.sockets(place):
        connection = sockets.connect(path)
        if connection is None:
            remove_dead(path)
            continue
        with sockets.until_left(connection):
            status = _answer(connection, GetStatus(), _PROMPT_ANSWER)
        if isinstance(status, Status):
            found.append((path, status))
    return found


def fits(checkpoint: Checkpoint, request: LoadRequest) -> bool:
    """Whether the memory that is free now holds the model as `request` says, with nothing given up."""
    from chatcli.models.weights import weights
    from chatcli.runtime.model import planned

    try:
        planned(checkpoint, weights(checkpoint), replace(request, fit="strict"))
    except OutOfMemory:
        return False
    return True


def make_room(place: Path, fits: Callable[[], bool], name: str, but: Path | None = None) -> None:
    """End idle processes, those idle longest first, until a model `fits`.

    One that another version of chatcli started for the model `name` ends in any case. `but` is the socket of the
    process that asks.
    """
    idle = [each for each in statuses(place) if each[1].state == "idle" and each[0] != but]
    for path, status in sorted(idle, key=lambda each: -each[1].idle):
        if (status.model == name and status.version != __version__) or not fits():
            stop(path, if_idle=True)


def remove_dead(path: Path) -> None:
    """Take away a socket that nobody listens to."""
    with sockets.alone(path.parent):
        if connection := sockets.connect(path):
            connection.close()
        else:
            path.unlink(missing_ok=True)
            path.with_suffix(".log").unlink(missing_ok=True)


def stop(path: Path, *, if_idle: bool = False) -> bool:
    """End the process at a socket and wait for its end; False where it is busy and only `if_idle` it should go."""
    connection = sockets.connect(path)
    if connection is None:
        return True
    with sockets.until_left(connection):
        answer = _answer(connection, Stop(if_idle), _PROMPT_ANSWER)
        if if_idle and isinstance(answer, Status) and answer.state != "idle":
            return False
        for _ in sockets.lines(connection, _PROMPT_ANSWER):  # it closes when it has gone
            break
    return True
