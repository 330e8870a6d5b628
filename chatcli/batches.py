"""Many questions in a file, many answers in another: lines in, lines out, resumable in between.

Answers go to a journal as they come, OUT.part, and into OUT, in the order of the questions, when all are
there. A run that was killed goes on where the journal ends. It knows files and lines; how a question is
answered, the caller knows.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from chatcli import config
from chatcli.conversation import Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings

_KEYS = ("prompt", "messages", "system", "id", "metadata")
_SETTINGS = tuple(key for key in config.KINDS if key not in ("model", "server", "system"))


@dataclass(frozen=True, slots=True)
class Request:
    """One line's question. `line` counts from 1; `named` are its own `id` and `metadata`, for its answer."""

    line: int
    conversation: Conversation
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that cannot be asked, and why."""

    line: int
    error: str
    named: Mapping[str, Any] = field(default_factory=dict)


def read(text: str, settings: GenerationSettings, system: str = "") -> Iterator[Request | Refused]:
    """The questions of a JSONL file, line by line; empty lines are passed over.

    A line is a text in quotes, or an object with `prompt` or `messages`, and where wanted `system`, `id`,
    `metadata` and settings by the names of the configuration, which stand over `settings`.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        said: Any = None
        try:
            said = json.loads(line)
            yield _request(number, {"prompt": said} if isinstance(said, str) else said, settings, system)
        except (ValueError, RecursionError) as error:
            yield Refused(number, f"it is no JSON: {error}")
        except UsageError as error:
            yield Refused(number, str(error), _named(said))


def _request(line: int, said: Any, settings: GenerationSettings, system: str) -> Request:
    if not isinstance(said, dict):
        raise UsageError("A line must be a text or an object.")
    for key in said:
        if key not in (*_KEYS, *_SETTINGS):
            near = difflib.get_close_matches(key, (*_KEYS, *_SETTINGS), n=1)
            raise UsageError(f"There is no key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
    own: dict[str, Any] = {
        config.FIELDS.get(key, key): config.check(key, said[key]) for key in _SETTINGS if said.get(key) is not None
    }
    asked = _messages(said)
    system = said.get("system", system) or ""
    if not isinstance(system, str):
        raise UsageError("system must be a text.")
    if asked.system and "system" in said:
        raise UsageError("The system message stands twice: in system and in messages.")
    return Request(line, asked if asked.system else asked.with_system(system), replace(settings, **own), _named(said))


def _named(said: Any) -> dict[str, Any]:
    """What a line is known by to its author: any JSON values, none where it says nothing."""
    return {key: said[key] for key in ("id", "metadata") if key in said} if isinstance(said, dict) else {}


def _messages(said: Mapping[str, Any]) -> Conversation:
    """The conversation of `prompt` or of `messages`, which ends with a question."""
    if ("prompt" in said) == ("messages" in said):
        raise UsageError("A line needs either prompt or messages.")
    listed = said.get("messages", [{"role": "user", "content": said.get("prompt")}])
    messages = []
    for each in listed if isinstance(listed, list) else [None]:
        if not (
            isinstance(each, dict)
            and isinstance(each.get("content"), str)
            and each.get("role") in ("system", "user", "assistant")
        ):
            raise UsageError("Each message needs a role (system, user or assistant) and a text as its content.")
        messages.append(Message(each["role"], each["content"]))
    if not messages or messages[-1].role != "user" or not messages[-1].text.strip():
        raise UsageError("The last message must be a question that is not empty.")
    if any(message.role == "system" for message in messages[1:]):
        raise UsageError("A system message can only come first.")
    return Conversation(tuple(messages))


class Journal:
    """The answers so far, beside the file that they will go to; every one is on disk when `add` returns.

    `done` are the lines that have an answer. The journal begins with a fingerprint of the questions, so that
    it never goes on with those of another run.
    """

    def __init__(self, target: Path, fingerprint: str) -> None:
        """Open or begin the journal of `target`.

        Raises:
            UsageError: it belongs to other questions, or cannot be written.
        """
        self._target = target
        self._path = target.with_name(f"{target.name}.part")
        self._answers: dict[int, dict[str, Any]] = {}
        header = _line({"questions": fingerprint})
        try:
            self._file = self._path.open("a+b")
            _claim(self._file, self._path)
            kept = self._read(header)
            self._file.truncate(kept)  # a line that a kill has cut
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}.") from error
        except UsageError:
            self._file.close()
            raise
        if not kept:
            self._write(header)

    @property
    def done(self) -> frozenset[int]:
        """The lines that are answered."""
        return frozenset(self._answers)

    @property
    def failed(self) -> int:
        """How many of them have an error for an answer."""
        return sum("error" in answer for answer in self._answers.values())

    def add(self, line: int, answer: Mapping[str, Any]) -> None:
        """Keep the answer to a line."""
        self._answers[line] = dict(answer)
        self._write(_line({"line": line, **answer}))

    def finish(self) -> None:
        """Write all answers in the order of their questions, whole or not at all, and remove the journal."""
        fresh = self._target.with_name(f"{self._target.name}.new")
        with fresh.open("wb") as file:
            file.writelines(_line({"line": number, **self._answers[number]}) for number in sorted(self._answers))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._target)
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is in it stays, but a journal without an answer is in the way of other questions."""
        if not self._answers:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _read(self, header: bytes) -> int:
        """Take in what is there; returns the length of its whole lines in bytes."""
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return 0
        first, *rest = whole.splitlines(keepends=True)  # of bytes, which knows no line ends but the ASCII ones
        if first != header:
            raise UsageError(
                f"{self._path} holds answers to other questions or of another model: remove it, or choose another file."
            )
        length = len(first)
        for line in rest:
            try:
                answer = json.loads(line)
                self._answers[answer.pop("line")] = answer
            except (ValueError, TypeError, KeyError, AttributeError):  # a power cut: what follows is asked again
                break
            length += len(line)
        return length

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


def _line(values: Mapping[str, Any]) -> bytes:
    """A line of JSON; half a surrogate pair, which a question's id may hold and UTF-8 cannot, becomes `?`."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _claim(file: IO[bytes], path: Path) -> None:
    """Hold `file` for this process until it is closed; where there are no such locks, do without."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"{path} is being written by another run: let it end, or choose another file.") from error


def fingerprint(questions: str, model: str, revision: str, settings: GenerationSettings, system: str) -> str:
    """What a run's answers depend on, as a short text."""
    said = "\0".join((questions, model, revision, repr(settings), system))
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
