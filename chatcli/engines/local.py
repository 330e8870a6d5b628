"""The engine on this machine: a conversation becomes a prompt, the model's ids become clean text.

The chain of one turn: render, encode, keep the cached prefix, prefill, decode, detokenize, sanitize,
stop strings, reasoning. It knows the order of these steps and no tensor; torch comes in with
`open_local`, after the name, the files and the chat format have proved right.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chatcli.adapters.encode import Spoken
from chatcli.adapters.format import ChatFormat, chat_format, require_chat_format
from chatcli.adapters.table import Table
from chatcli.constraints import grammar
from chatcli.conversation import Conversation
from chatcli.engines.overflow import fit
from chatcli.generation import (
    DEFAULTS,
    EngineFacts,
    Event,
    Finished,
    FinishReason,
    GenerationSettings,
    Progress,
    Text,
    TokenLogprob,
)
from chatcli.models.checkpoint import Checkpoint, context_length
from chatcli.models.vocabulary import tokenizer as read_tokenizer
from chatcli.models.weights import weights as read_weights
from chatcli.streaming.cleanup import Cleanup
from chatcli.streaming.detokenize import Detokenizer
from chatcli.streaming.reasoning import ReasoningSplitter
from chatcli.streaming.sanitize import sanitize
from chatcli.streaming.stops import StopStrings

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report
    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.model import CausalModel

UNKNOWN_CONTEXT = 4096
"""Tokens that a model is trusted with whose config.json does not say."""
REMEMBERED_REPLIES = 256


class LocalEngine:
    """A causal model in this process. One talk at a time; the cache follows the talk."""

    def __init__(self, checkpoint: Checkpoint, chat: ChatFormat, model: CausalModel) -> None:
        self._chat = chat
        self._model = model
        self._spoken: dict[str, Spoken] = {}
        self._dropped = 0
        self.facts = EngineFacts(
            model=checkpoint.name,
            revision=checkpoint.revision,
            device=model.device,
            precision=model.precision,
            context=context_length(checkpoint.config) or UNKNOWN_CONTEXT,
            adapter=chat.adapter.name,
        )

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer the last user message.

        Raises:
            ContextOverflow: the prompt does not fit, and nothing may or can be left out.
            OutOfMemory, EngineError: the model failed.
        """
        begun = time.monotonic()
        settings = settings.over(self._chat.defaults).over(DEFAULTS)
        fitted = fit(conversation, self._encode, self.facts.context, settings, dropped=self._dropped)
        if fitted.dropped > self._dropped:
            yield Progress("reading", note=fitted.note)
        self._dropped = fitted.dropped
        counted = _Counted(begun, len(fitted.ids))
        limit = min(settings.max_new_tokens or fitted.room, fitted.room)
        made: list[int] = []
        inside = self._chat.begins_inside_reasoning(fitted.ids)
        reply = _Reply(self._chat, settings, inside=inside)
        tokens = self._model.generate(
            fitted.ids,
            settings,
            end=self._chat.end,
            limit=limit,
            constraint=self._constraint(settings, limit, inside=inside),
        )
        try:
            ended = yield from self._relay(tokens, reply, made, counted)
        finally:
            self._remember(made, reply.answer)
        finished = counted.finished("stop" if ended else "length", len(made))
        yield replace(finished, logprobs=self._logprobs()) if settings.top_logprobs is not None else finished

    def close(self) -> None:
        """Free the model's memory."""
        self._model.close()

    def _constraint(self, settings: GenerationSettings, limit: int, *, inside: bool) -> TokenConstraint | None:
        if not settings.constraint:
            return None
        begin = self._chat.tokenizer.token_to_id(self._chat.tags[1]) if inside else None
        return self._model.constrained(
            self._chat.tokenizer, grammar(settings.constraint), end=self._chat.end, limit=limit, begin=begin
        )

    def _logprobs(self) -> tuple[TokenLogprob, ...]:
        def told(token: int, logprob: float) -> TokenLogprob:
            return TokenLogprob(token, self._chat.tokenizer.decode([token], skip_special_tokens=False), logprob)

        return tuple(
            replace(told(token, logprob), top=tuple(told(*each) for each in top))
            for token, logprob, top in self._model.logprobs
        )

    def _relay(
        self, tokens: Generator[Progress | int, None, bool], reply: _Reply, made: list[int], counted: _Counted
    ) -> Generator[Event, None, bool]:
        """Turn ids into events; returns whether the reply came to an end of its own."""
        try:
            while True:
                token = next(tokens)
                if isinstance(token, Progress):
                    counted.progress(token)
                    yield token
                    continue
                counted.token()
                made.append(token)
                events = reply.push(token)
                yield from events or (Progress("writing", len(made), unit="tokens"),)
                if reply.stopped:
                    return True
        except StopIteration as end:
            yield from reply.flush()
            return bool(end.value)
        finally:
            tokens.close()

    def _encode(self, conversation: Conversation) -> list[int]:
        replies = (m.text.strip() for m in conversation.messages if m.role == "assistant")
        return self._chat.encode(conversation, [s for text in replies if (s := self._spoken.get(text))])

    def _remember(self, made: list[int], answer: str) -> None:
        """Keep the ids of a reply whose text is just what they decode to, for the next prompt."""
        text = self._chat.tokenizer.decode(made)
        if text and text == answer and text == text.strip():
            self._spoken[text] = Spoken(text, tuple(made))
            while len(self._spoken) > REMEMBERED_REPLIES:
                del self._spoken[next(iter(self._spoken))]


@dataclass
class _Counted:
    """Times and counts of one turn, as they come in."""

    begun: float
    prompt: int
    cached: int = -1
    first: float = 0.0

    def progress(self, progress: Progress) -> None:
        """Note the first report of reading, which begins with what was cached."""
        if self.cached < 0:
            self.cached = progress.done

    def token(self) -> None:
        """Note when the first token came."""
        self.first = self.first or time.monotonic()

    def finished(self, reason: FinishReason, made: int) -> Finished:
        """The turn's last event."""
        now = time.monotonic()
        first = self.first or now
        return Finished(reason, self.prompt, made, max(self.cached, 0), first - self.begun, now - first)


class _Reply:
    """From one reply's ids to events; `answer` is the text so far, without reasoning."""

    def __init__(self, chat: ChatFormat, settings: GenerationSettings, *, inside: bool) -> None:
        self.answer = ""
        self.stopped = False
        self._detokenizer = Detokenizer(chat.tokenizer, keep=chat.kept)
        self._cleanup = Cleanup(chat.adapter.cleanup)
        # A constraint ends the answer itself; what it asks for may well hold a family's stop string.
        self._stops = StopStrings(() if settings.constraint else (*chat.stop, *(settings.stop or ())))
        self._splitter = ReasoningSplitter(*chat.tags, inside=inside)

    def push(self, token: int) -> list[Event]:
        """What the token makes certain."""
        return self._split(self._certain(self._cleanup.push(self._detokenizer.push(token))))

    def flush(self) -> list[Event]:
        """What was held back, at the end of the reply."""
        if self.stopped:
            return []
        text = self._certain(self._cleanup.push(self._detokenizer.flush()) + self._cleanup.flush())
        return self._split(text if self.stopped else text + self._stops.flush(), last=True)

    def _certain(self, text: str) -> str:
        safe, hit = self._stops.push(sanitize(text))
        self.stopped = hit is not None
        return safe

    def _split(self, text: str, *, last: bool = False) -> list[Event]:
        events: list[Event] = list(self._splitter.push(text))
        if last or self.stopped:
            events += self._splitter.flush()
        self.answer += "".join(event.text for event in events if isinstance(event, Text))
        return events


def open_local(checkpoint: Checkpoint, table: Table, report: Report) -> LocalEngine:
    """Load `checkpoint` onto the best device of this machine; `table` says how it is talked to.

    Raises:
        ModelError: it does not chat, is damaged, or needs code of its own.
        OutOfMemory: it does not fit.
    """
    require_chat_format(checkpoint, table)
    weights = read_weights(checkpoint)
    tokenizer = read_tokenizer(checkpoint)
    chat = chat_format(checkpoint, tokenizer, table) if tokenizer else None
    report(Progress("starting"))
    from chatcli.runtime import without_garbage_collection

    with without_garbage_collection():
        from chatcli.runtime.load import load_tokenizer
        from chatcli.runtime.model import load

        chat = chat or chat_format(checkpoint, load_tokenizer(checkpoint), table)
        model = load(checkpoint, weights, report)
    return LocalEngine(checkpoint, chat, model)
