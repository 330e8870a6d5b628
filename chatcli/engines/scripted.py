"""An engine that says what it was told to: for tests, demonstrations and bug reports.

It honours the protocol to the letter (cancellation, errors, counts) and knows no model.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Generator, Sequence

from chatcli.conversation import Conversation, Message
from chatcli.errors import EngineError
from chatcli.generation import Embedded, EngineFacts, Event, Finished, GenerationSettings, Progress, Text

Step = Event | BaseException
_PIECES = re.compile("[\u2e80-\u9fff\uff00-\uffef] ?|[^ \u2e80-\u9fff\uff00-\uffef]* ?")


class ScriptedEngine:
    """Answers the n-th question with the n-th script, then begins again.

    A script is a text, streamed by words or Chinese characters with `seconds_per_piece` between, or a
    sequence of events and exceptions, passed on and raised as they stand. A reply to go on with gets the
    rest of the text that it is the beginning of, else the next script. `asked` keeps every conversation
    that came in.
    """

    def __init__(self, scripts: Sequence[str | Sequence[Step]], *, seconds_per_piece: float = 0.0) -> None:
        self.asked: list[Conversation] = []
        self.prepared: list[Conversation] = []
        self.cancelled = 0
        self._scripts = scripts
        self._pause = seconds_per_piece
        self._played = 0

    @property
    def facts(self) -> EngineFacts:
        """A model named "scripted" with a context of 4096 tokens."""
        return EngineFacts("scripted", device="none", precision="text", context=4096)

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Play the next script, or the rest of one."""
        self.asked.append(conversation)
        script: str | Sequence[Step] | None = self._rest_of(conversation.unfinished)
        if script is None:
            script = self._scripts[self._played % len(self._scripts)]
            self._played += 1
        steps: Sequence[Step] = _spoken(script) if isinstance(script, str) else script
        try:
            for step in steps:
                if isinstance(step, BaseException):
                    raise step
                yield step
                time.sleep(self._pause)
        except GeneratorExit:
            self.cancelled += 1
            raise

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Read word by word; `prepared` keeps every conversation that was read to its end."""
        for _ in conversation.messages[-1].text.split():
            yield Progress("reading")
            time.sleep(self._pause)
        self.prepared.append(conversation)

    def count(self, conversation: Conversation) -> int:
        """Words."""
        return sum(len(message.text.split()) for message in conversation.messages)

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Play the next script, whatever the prompt."""
        text = prompt if isinstance(prompt, str) else self.detokenize(prompt)
        yield from self.stream(Conversation((Message("user", text),)), settings)

    def tokenize(self, text: str) -> list[int]:
        """Characters, by number."""
        return [ord(each) for each in text]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Characters, by number."""
        return "".join(map(chr, ids))

    def embed(self, texts: Sequence[str]) -> Generator[Event]:
        """A vector of two numbers for each text, which tells long ones from short ones."""
        lengths = [len(text) for text in texts]
        yield Progress("reading", 0, sum(lengths), "tokens")
        yield Embedded(tuple((1 / math.hypot(1, length), length / math.hypot(1, length)) for length in lengths))
        yield Finished("stop", sum(lengths))

    def close(self) -> None:
        """Nothing to free."""

    def _rest_of(self, reply: Message | None) -> str | None:
        if reply is None:
            return None
        texts = (text for text in self._scripts if isinstance(text, str) and text.startswith(reply.text))
        return next((text[len(reply.text) :] for text in texts), None)


def _spoken(text: str) -> list[Event]:
    shown: list[Event] = [Text(piece) for piece in _PIECES.findall(text) if piece]
    return [Progress("reading", 0, 8, "tokens"), *shown, Finished("stop", 8, len(shown), 0, 0.01, 0.01)]


def failing_after(events: int, reply: str) -> list[Step]:
    """A script that breaks with an `EngineError` after `events` events of `reply`."""
    return [*_spoken(reply)[:events], EngineError("The scripted engine was told to fail here.")]
