"""An engine that is a server of the OpenAI API: vLLM, llama.cpp, Ollama, OpenAI itself, our own.

It asks, waits, asks again where that may help, and says in a sentence what went wrong. How servers differ is
`openai/servers.toml`; how a connection is made is `exchange`. It knows no token and no torch.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chatcli.constraints import conforms
from chatcli.conversation import Conversation
from chatcli.engines.refusal import BUSY, LONGEST_PAUSE, Caller, parameter_of, retry_after
from chatcli.errors import ChatcliError, ContextOverflow, EngineError
from chatcli.exchange import POLL_SECONDS, ExchangeFailed, Head, Patience, Request, exchange, read_whole
from chatcli.generation import EngineFacts, Event, Finished, GenerationSettings, Layer, Progress, Text
from chatcli.openai.asking import Asking, asking, refused_parameters
from chatcli.openai.kinds import UNKNOWN, ServerKind
from chatcli.openai.received import MOST_CHARACTERS, Answer, ServerFailure
from chatcli.servers.profiles import Server, model_at

if TYPE_CHECKING:
    from chatcli.engines import together

AFTER_THE_END = 2.0
"""Seconds in which a server may still say what an answer cost, after it has said how it ended."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a request is made, where nobody listens and else; each pause is twice as long as the one before."""

    most: int = 5
    refused: int = 3
    pause: float = 0.5


class _Again(Exception):
    """Another try may help; the text says why in a few words, `error` what it is when no try helps.

    `wait` is how long the server wants to be left alone, `most` how many tries it is worth.
    """

    def __init__(self, why: str, error: ChatcliError, most: int, wait: float = 0.0) -> None:
        super().__init__(why)
        self.error, self.most, self.wait = error, most, wait


class _Without(Exception):
    """The server takes the request without some of its parameters."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self.names = names


class RemoteEngine:
    """A model of a server; `open_remote` makes one. Many threads may call `stream` of copies of it.

    `key` is asked for with every request and kept nowhere.
    """

    def __init__(
        self,
        server: Server,
        kind: ServerKind,
        model: str,
        key: Callable[[], str],
        *,
        context: int = 0,
        patience: Patience | None = None,
        tries: Tries | None = None,
    ) -> None:
        self._caller, self._name = Caller(server, kind, model, key), server.label
        self._patience, self._tries = patience or Patience(), tries or Tries()
        self._dropped = 0
        # Copies share these two, and threads: what one has found out, none asks again.
        self._without: set[str] = set()
        self._noted: dict[str, object] = {}
        self.facts = EngineFacts(
            model_at(model, server.name),
            device=kind.title if kind.name != UNKNOWN else "",
            context=context,
            unsaid=Layer("the server's own", GenerationSettings()),
        )

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer the last user message, or go on with the answer that is begun, where the server can.

        A request is made again, after a pause, as long as nothing of an answer was shown.

        Raises:
            ModelError: the server is not there, refuses the key or has no such model.
            UsageError: the server does not take the request; ContextOverflow, where it is too long.
            EngineError: the server failed, or broke off.
        """
        begun, tried = time.monotonic(), 0
        while True:
            asked = self._asking(conversation, settings)
            yield from self._notes(asked)
            try:
                yield from self._answered(asked, settings, begun)
                return
            except _Without as refused:
                names = " and ".join(sorted(refused.names - self._without))
                self._without.update(refused.names)
                if names:
                    yield Progress("asking", note=f"{self._name} does not take {names}; asking again without.")
            except ContextOverflow:
                if settings.overflow == "stop" or not self._drop(conversation):
                    raise
                yield Progress("asking", note=_dropped_note(self._dropped))
            except _Again as again:
                tried += 1
                if tried >= again.most or again.wait > LONGEST_PAUSE:
                    raise again.error from None
                yield from self._pause(again, tried)

    def answer_together(self, asked: Sequence[tuple[Conversation, GenerationSettings]]) -> Generator[together.Answer]:
        """Answer many conversations, some at a time; see `engines.at_once`."""
        from chatcli.engines.at_once import answer_at_once

        yield from answer_at_once(self.another_talk, asked)

    def another_talk(self) -> RemoteEngine:
        """An engine for one more talk with the same model."""
        other = copy(self)
        other._dropped = 0
        return other

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Nothing: a server reads what it is asked."""
        yield from ()

    def count(self, conversation: Conversation) -> int:
        """0: a server counts what it has answered, and is not asked while somebody types."""
        return 0

    def close(self) -> None:
        """Nothing: every answer has a connection of its own."""

    def _asking(self, conversation: Conversation, settings: GenerationSettings) -> Asking:
        for _ in range(self._dropped):
            conversation = conversation.without_first_exchange()
        caller = self._caller
        return asking(conversation, settings, caller.kind, caller.model, self._name, self._without)

    def _notes(self, asked: Asking) -> Generator[Event]:
        """What the server has no place for, told once."""
        mine = object()
        new = [name for name in asked.left_out if self._noted.setdefault(name, mine) is mine]
        if new:
            names = " and ".join(new)
            yield Progress("asking", note=f"{self._name} is {self._caller.kind.title} and has no {names}: left out.")

    def _drop(self, conversation: Conversation) -> bool:
        """Leave out older exchanges, a quarter of them at a time; whether there was one to leave out."""
        left = conversation.exchanges - self._dropped
        if left < 2:
            return False
        self._dropped += max(left // 4, 1)
        return True

    def _pause(self, again: _Again, tried: int) -> Generator[Event]:
        """Wait before the next try: as long as the server wants, else longer every time, and never all at once."""
        seconds = again.wait or self._tries.pause * 2 ** (tried - 1) * random.uniform(0.5, 1.5)
        yield Progress("waiting", note=f"{self._name} {again}; asking again in {max(seconds, 0.1):.1f} s.")
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, POLL_SECONDS))
            yield Progress(f"waiting for {self._name}")

    def _request(self, asked: Asking) -> Request:
        address = self._caller.server.address
        headers = {**self._caller.headers, "Content-Type": "application/json", "Accept": "text/event-stream, */*"}
        # ASCII: half a surrogate pair, which a damaged text may hold, has no UTF-8.
        body = json.dumps(asked.body).encode("ascii")
        return Request(address, "POST", f"{address.path}/chat/completions", headers, body)

    def _answered(self, asked: Asking, settings: GenerationSettings, begun: float) -> Generator[Event]:
        """One try.

        Raises:
            _Again: nothing was shown, and another try may help.
            _Without: the server takes it without some parameters.
            ChatcliError: what `stream` raises.
        """
        inside = self._caller.server.thinks and settings.think is not False
        answer, shown = Answer(self._caller.kind, inside=inside), _Shown(begun)
        broken: ServerFailure | ExchangeFailed | None = None
        for part in (self._relay(answer, asked), answer.flush()):  # what is held back is shown after a failure, too
            try:
                with closing(part) as events:
                    for event in events:
                        yield shown.noted(event)
            except (ServerFailure, ExchangeFailed) as failure:
                broken = broken or failure
        if broken is None and answer.reason is None and not answer.done:
            broken = ExchangeFailed("cut", "closed the connection before its answer was whole")
        if broken:
            raise self._broken(broken, shown)
        if answer.filtered:
            yield Progress("answering", note=f"{self._name} ended the answer: its filter has found something.")
        whole = answer.reason not in ("length", "tool_calls")
        if settings.constraint and whole and not conforms(settings.constraint, shown.text):
            raise EngineError(f"{self._name} does not hold the answer to --{settings.constraint.kind}{shown.kept}.")
        yield shown.finished(answer, settings)

    def _relay(self, answer: Answer, asked: Asking) -> Generator[Event]:
        """The events of a request, until its answer is whole; a sign of life while nothing comes."""
        with closing(exchange(self._request(asked), self._patience)) as pieces:
            yield from self._read(pieces, answer, asked)

    def _read(self, pieces: Generator[Head | bytes | None], answer: Answer, asked: Asking) -> Generator[Event]:
        streams, ended, body = True, 0.0, b""
        for piece in pieces:
            if isinstance(piece, Head):
                if piece.status != 200:
                    raise self._refusal(piece, read_whole(pieces)[1], asked)
                self._caller.require_no_page(piece)
                streams = not piece.headers.get("content-type", "").startswith("application/json")
            elif piece is None:
                yield self._alive(answer)
            elif streams:
                for event in answer.push(piece):
                    yield self._alive(answer)
                    yield event
            elif len(body) < MOST_CHARACTERS:
                body += piece
            else:
                raise ServerFailure("its answer does not end")
            if answer.reason and not ended:
                ended = time.monotonic()
            if answer.done or (ended and time.monotonic() - ended > AFTER_THE_END):
                return
        if body:
            yield from answer.whole(body)

    def _alive(self, answer: Answer) -> Progress:
        """What is under way."""
        return Progress("writing", answer.pieces, unit="tokens") if answer.pieces else self._waiting()

    def _waiting(self) -> Progress:
        return Progress(f"waiting for {self._name}")

    def _refusal(self, head: Head, body: bytes, asked: Asking) -> Exception:
        """What a status other than 200 means: another try, another request, or an error."""
        error = self._caller.refusal(head, body)
        if head.status in BUSY:
            why = f"is busy ({head.status})" if head.status in (429, 503) else f"answers with an error ({head.status})"
            return _Again(why, error, self._tries.most, retry_after(head))
        if head.status in (400, 422) and not isinstance(error, ContextOverflow):
            names = refused_parameters(asked.body, parameter_of(body), self._caller.words(body))
            return _Without(names) if names else error
        return error

    def _broken(self, failure: ServerFailure | ExchangeFailed, shown: _Shown) -> Exception:
        """What a failure means, before and after something was shown."""
        if isinstance(failure, ServerFailure):
            return EngineError(f"{self._name} failed: {self._caller.clean(str(failure))}{shown.kept}.")
        if shown.events:
            return EngineError(f"{self._name} {failure}{shown.kept}.")
        error = self._caller.unreachable(failure)
        why = {"refused": "is not there", "cut": "broke off"}.get(failure.kind)
        return _Again(why, error, self._tries.refused) if why else error


@dataclass
class _Shown:
    """One answer from when it was asked for: its times, its `text`, and how many `events` of it were shown."""

    begun: float
    events: int = 0
    text: str = ""
    first: float = 0.0
    last: float = 0.0

    def noted(self, event: Event) -> Event:
        """Count what is a part of the answer."""
        if not isinstance(event, Progress):
            self.events += 1
            self.text += event.text if isinstance(event, Text) else ""
            self.last = time.monotonic()
            self.first = self.first or self.last
        return event

    @property
    def kept(self) -> str:
        """The end of a sentence about what broke an answer off."""
        return "; what it said until then is kept" if self.events else ""

    def finished(self, answer: Answer, settings: GenerationSettings) -> Finished:
        """The last event; where the server counts nothing, every piece is a token."""
        first = self.first or time.monotonic()
        finished = Finished(
            answer.reason or "stop",
            answer.prompt_tokens,
            answer.completion_tokens or answer.pieces,
            answer.cached_tokens,
            first - self.begun,
            max(self.last - first, 0.0),
        )
        return replace(finished, logprobs=tuple(answer.logprobs)) if settings.top_logprobs is not None else finished


def _dropped_note(dropped: int) -> str:
    oldest = "exchange is" if dropped == 1 else f"{dropped} exchanges are"
    return f"The context is full: the oldest {oldest} no longer part of the prompt (they stay in the history)."
