"""Many conversations answered by an engine that answers several at once, each in a thread.

It knows conversations and events; what answers them waits for a server and computes nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from chatcli.conversation import Conversation
from chatcli.engines.together import Answer
from chatcli.errors import ChatcliError, EngineError, ModelError
from chatcli.generation import Engine, GenerationSettings, Progress
from chatcli.streaming.gathered import Gathered

AT_ONCE = 8
"""Answers under way at the same time: enough for a server that batches, not rude to one that does not."""
_POLL_SECONDS = 0.2


def answer_at_once(
    engine: Callable[[], Engine],
    asked: Sequence[tuple[Conversation, GenerationSettings]],
    at_once: int = AT_ONCE,
) -> Generator[Answer]:
    """Answer every conversation, each with an `engine` of its own; answers come as they end.

    A question that has no answer has an error; the others do not suffer. Closing the generator leaves them all.

    Raises:
        ModelError: no question can be answered: the server has gone, or refuses the key.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(asked)):
        waiting.put(index)
    answers: queue.SimpleQueue[Answer | ModelError] = queue.SimpleQueue()
    left = threading.Event()

    def work() -> None:
        while not left.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put(_answer(index, engine(), *asked[index], left))
            except ModelError as error:
                answers.put(error)

    for _ in range(min(at_once, len(asked))):
        threading.Thread(target=work, daemon=True).start()
    try:
        missing = len(asked)
        while missing:
            try:
                answer = answers.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(answer, ModelError):
                raise answer
            missing -= 1
            yield answer
    finally:
        left.set()


def _answer(
    index: int, engine: Engine, conversation: Conversation, settings: GenerationSettings, left: threading.Event
) -> Answer:
    gathered, notes = Gathered(time.monotonic), []
    try:
        with closing(engine.stream(conversation, settings)) as events:
            for event in events:
                gathered.add(event)
                if isinstance(event, Progress) and event.note:
                    notes.append(event.note)
                if left.is_set():
                    break
    except ModelError:
        raise
    except ChatcliError as error:
        return Answer(index, error=error, notes=tuple(notes))
    except Exception as error:  # a defect must not leave the others waiting for ever
        return Answer(index, error=EngineError(f"unexpected {type(error).__name__}: {error}."))
    return Answer(index, gathered.message, gathered.finished, notes=tuple(notes))
