"""The engine on this machine: a conversation becomes a prompt, the model's ids become clean text.

The chain of one turn: render, encode, keep the cached prefix, prefill, decode, detokenize, sanitize,
stop strings, reasoning. It knows the order of these steps and no tensor; torch comes in with
`open_local`, after the name, the files and the chat format have proved right.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chatcli.adapters.encode import Spoken, encode_text
from chatcli.adapters.format import ChatFormat, chat_format, require_chat_format
from chatcli.adapters.table import Table
from chatcli.adapters.tool_prompt import offered
from chatcli.constraints import grammar
from chatcli.conversation import Conversation, Message
from chatcli.engines.counted import Counted
from chatcli.engines.embedding import Submit, at_once, embedded, encoded
from chatcli.engines.generates import Generates
from chatcli.engines.overflow import fit
from chatcli.engines.reply import NOTHING, Reply
from chatcli.engines.together import Answer, answer_together
from chatcli.errors import ChatcliError, ContextOverflow, UsageError
from chatcli.generation import (
    DEFAULTS,
    EngineFacts,
    Event,
    Finished,
    GenerationSettings,
    Made,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
)
from chatcli.load_request import NOTHING_SAID, LoadRequest
from chatcli.models.checkpoint import Checkpoint, context_length
from chatcli.models.draft import open_draft
from chatcli.models.pooling import pooling
from chatcli.models.quantized import require_readable
from chatcli.models.read_ahead import read_ahead
from chatcli.models.sight import require_no_picture
from chatcli.models.vocabulary import tokenizer as read_tokenizer
from chatcli.models.weights import weights as read_weights

if TYPE_CHECKING:
    from chatcli.engines.deferred import Report
    from chatcli.runtime.bench import Measured
    from chatcli.runtime.constrain import TokenConstraint
    from chatcli.runtime.model import CausalModel
    from chatcli.runtime.sampling import Drawn

SOME_TEXT = "A prompt to measure with, of words that any tokenizer knows, over and over again. "
UNKNOWN_CONTEXT = 4096
"""Tokens that a model is trusted with whose config.json does not say."""
REMEMBERED_REPLIES = 256

_NO_TAGS = ("\0", "\0")
"""Tags of a text in which nothing is reasoning: what is shown holds no such character."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class LocalEngine:
    """A causal model in this process. One talk at a time; the cache follows the talk."""

    def __init__(self, checkpoint: Checkpoint, chat: ChatFormat, model: CausalModel) -> None:
        self._chat = chat
        self._model = model
        self._generates: Generates = model
        self._checkpoint = checkpoint
        self._pictures = model.pictures(chat.tokenizer)
        self._spoken: dict[str, Spoken] = {}
        self._made: dict[Message, tuple[int, ...]] = {}
        self._remembering = threading.Lock()
        self._dropped = 0
        self._noted: set[str] = set()
        self.facts = EngineFacts(
            model=checkpoint.name,
            revision=checkpoint.revision,
            device=model.device,
            precision=model.precision,
            context=context_length(checkpoint.config) or UNKNOWN_CONTEXT,
            adapter=chat.row,
            layers=chat.layers,
            most_tokens_per_second=model.most_tokens_per_second,
            sees=self._pictures is not None,
        )

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer the last user message, or go on with the answer that is begun.

        Going on, the ids that this engine made for the beginning are taken as they are, so that it comes
        to what it would have come to at once.

        Raises:
            ContextOverflow: the prompt does not fit, and nothing may or can be left out.
            UsageError: the question has a picture, and the model reads text only.
            OutOfMemory, EngineError: the model failed.
        """
        begun = time.monotonic()
        settings = self._chat.held_to_calls(conversation, settings.over(self._chat.defaults).over(DEFAULTS))
        if conversation.images and not self._pictures:
            require_no_picture(conversation, self._checkpoint)
        for note in self._notes(conversation, settings):
            if note not in self._noted:
                self._noted.add(note)
                yield Progress("reading", note=note)
        began = conversation.unfinished
        before = self._ids_of_the_beginning(conversation, settings) if began else []
        fitted = fit(
            conversation,
            lambda part: self._encode(part, settings, before),
            self.facts.context,
            settings,
            dropped=self._dropped,
        )
        if fitted.dropped > self._dropped:
            yield Progress("reading", note=fitted.note)
        self._dropped = fitted.dropped
        for _ in range(fitted.dropped):
            conversation = conversation.without_first_exchange()
        counted = Counted(begun, len(fitted.ids))
        limit = min(settings.max_new_tokens or fitted.room, fitted.room)
        inside = self._chat.begins_inside_reasoning(fitted.ids[: len(fitted.ids) - len(before)])
        reply = Reply(self._chat, settings, began or NOTHING, inside=inside, tools=offered(conversation))
        made: list[int] = []
        constraint = self._constraint(settings, limit, before, inside=inside)
        try:
            for event in reply.replay(before):
                yield reply.show(event)
            end = self._chat.end | reply.end
            tokens = self._generates.generate(
                fitted.ids,
                settings,
                end=end,
                limit=limit,
                constraint=constraint,
                images=conversation.images if self._pictures else (),
            )
            ended = reply.stopped or (yield from self._relay(tokens, reply, made, counted))
        finally:
            self._remember([*before, *made], reply.shown)
        yield self._finished(counted, settings, made, reply, ended=ended)

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with a text as such, or with ids, under no chat format; special tokens in the text are what they are.

        Nothing of what comes is reasoning, and it ends where the checkpoint says that a text ends.

        Raises:
            ContextOverflow: the prompt leaves no room in the context.
            UsageError: it is empty, or has ids that the model does not know.
            OutOfMemory, EngineError: the model failed.
        """
        begun = time.monotonic()
        settings = settings.over(self._chat.defaults).over(DEFAULTS)
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if not ids or min(ids) < 0 or max(ids) >= self._model.tokens:
            raise UsageError(f"A prompt is a text, or ids from 0 to {self._model.tokens - 1}, and not empty.")
        room = self.facts.context - len(ids)
        if room < 1:
            raise ContextOverflow(
                f"The prompt has {len(ids)} tokens, and the model's context holds {self.facts.context}: shorten it.",
                len(ids),
            )
        limit = min(settings.max_new_tokens or room, room)
        bare = replace(self._chat, stop=(), tags=_NO_TAGS, cleanup="")
        reply, made = Reply(bare, settings, inside=False), list[int]()
        counted = Counted(begun, len(ids))
        constraint = self._constraint(settings, limit, (), inside=False)
        tokens = self._generates.generate(ids, settings, end=bare.end | reply.end, limit=limit, constraint=constraint)
        ended = yield from self._relay(tokens, reply, made, counted)
        yield self._finished(counted, settings, made, reply, ended=ended)

    def answer_together(self, asked: Sequence[tuple[Conversation, GenerationSettings]]) -> Generator[Answer]:
        """Answer many conversations at once; see `engines.together`."""
        settled = [(conversation, each.over(self._chat.defaults).over(DEFAULTS)) for conversation, each in asked]
        yield from answer_together(
            settled,
            self._chat,
            self._model,
            self.facts.context,
            lambda settings, limit, inside: self._constraint(settings, limit, (), inside=inside),
        )

    def prepare(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Have the beginning of the next prompt in the cache; not where old exchanges are left out of it."""
        if conversation.images:  # the cache knows their patches by what is on them
            return
        ids = self._encode(conversation, settings.over(self._chat.defaults).over(DEFAULTS))
        if not self._dropped and len(ids) < self.facts.context:
            yield from self._model.prepare(ids)

    def count(self, conversation: Conversation) -> int:
        """Tokens of the whole conversation as a prompt, whether it fits or not."""
        try:
            return len(self._encode(conversation, GenerationSettings())) if conversation.spoken else 0
        except ChatcliError:  # a template that refuses it says so when it is asked
            return 0

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text, control tokens in it as such, with what the tokenizer itself puts around it."""
        whole = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold lone surrogates
        return list(self._chat.tokenizer.encode(whole).ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens with it."""
        return self._chat.tokenizer.decode(ids, skip_special_tokens=False)

    def embed(self, texts: Sequence[str], submit: Submit = at_once) -> Generator[Made]:
        """The vectors of the texts, behind reports of how far they are read; see `engines.embedding`.

        Raises:
            ContextOverflow: a text is longer than the context.
            UsageError: the model gives no vectors, or a text has no tokens.
        """
        prompts = encoded(texts, self.tokenize, self.facts.context)
        yield from embedded(self._model, prompts, pooling(self._checkpoint), submit)

    def another_talk(self, through: Generates | None = None) -> LocalEngine:
        """An engine for one more talk over the same model, with what is remembered of replies.

        Its answers come `through` another way than a call of the model, where one is given; then each talk may be in
        a thread of its own.
        """
        other = copy(self)
        other._dropped, other._noted = 0, set()
        other._generates = through or self._generates
        return other

    @property
    def model(self) -> CausalModel:
        """What computes."""
        return self._model

    def measure(self, prompt: int, tokens: int, rounds: int) -> Generator[Progress, None, Measured]:
        """How fast the model reads `prompt` tokens and writes `tokens` more; see `runtime.bench`."""
        from chatcli.runtime.bench import measure

        text = encode_text(self._chat.tokenizer, SOME_TEXT)
        return (yield from measure(self._model, (text * (prompt // len(text) + 1))[:prompt], tokens, rounds))

    def close(self) -> None:
        """Free the model's memory."""
        self._model.close()

    def _constraint(
        self, settings: GenerationSettings, limit: int, before: Sequence[int], *, inside: bool
    ) -> TokenConstraint | None:
        if not settings.constraint:
            return None
        begin = self._chat.tokenizer.token_to_id(self._chat.tags[1]) if inside else None
        made = self._model.constrained(
            self._chat.tokenizer, grammar(settings.constraint), end=self._chat.end, limit=limit, begin=begin
        )
        for token in before:
            made.take(token)
        return made

    def _finished(
        self, counted: Counted, settings: GenerationSettings, made: Sequence[int], reply: Reply, *, ended: bool
    ) -> Finished:
        finished = counted.finished(reply.reason(ended=ended), len(made))
        if settings.top_logprobs is None:
            return finished
        # What ended the reply was drawn as well, and a batch may have drawn on before it heard of a stop string.
        return replace(finished, logprobs=self._logprobs(self._generates.logprobs[: len(made)]))

    def _logprobs(self, drawn: Sequence[Drawn]) -> tuple[TokenLogprob, ...]:
        def told(token: int, logprob: float) -> TokenLogprob:
            return TokenLogprob(token, self._chat.tokenizer.decode([token], skip_special_tokens=False), logprob)

        return tuple(
            replace(told(token, logprob), top=tuple(told(*each) for each in top)) for token, logprob, top in drawn
        )

    def _relay(
        self, tokens: Generator[Progress | int, None, bool], reply: Reply, made: list[int], counted: Counted
    ) -> Generator[Event, None, bool]:
        """Turn ids into events, each token's behind its count; returns whether the reply came to its own end."""
        with closing(tokens):
            while not reply.stopped:
                try:
                    token = next(tokens)
                except StopIteration as end:
                    for event in self._weighed(reply.flush(ended=bool(end.value)), len(made), counted):
                        yield reply.show(event)
                    return bool(end.value)
                if isinstance(token, Progress):
                    counted.progress(token)
                    yield token
                    continue
                counted.token()
                made.append(token)
                yield Progress("writing", len(made), unit="tokens")
                for event in self._weighed(reply.push(token), len(made), counted):
                    yield reply.show(event)
        return True

    def _weighed(self, events: Sequence[Event], made: int, counted: Counted) -> Iterator[Event]:
        """The events; the first piece has the probabilities of the tokens since the last, where these are asked for."""
        drawn = self._generates.logprobs
        for event in events:
            new = drawn[counted.told : made]
            if new and isinstance(event, Text | Reasoning):
                counted.told = made
                yield replace(event, logprobs=self._logprobs(new))
            else:
                yield event

    def _encode(
        self, conversation: Conversation, settings: GenerationSettings, before: Sequence[int] = ()
    ) -> list[int]:
        """The prompt's ids; `before` are those of a reply to go on with."""
        if before:
            return [*self._encode(conversation.without_last_message(), settings), *before]
        replies = (m.text.strip() for m in conversation.messages if m.role == "assistant")
        spoken = [s for text in replies if (s := self._spoken.get(text))]
        if not self._pictures:
            conversation = conversation.without_images
        return self._chat.encode(conversation, spoken, settings, pictures=self._pictures)

    def _notes(self, conversation: Conversation, settings: GenerationSettings) -> Iterator[str]:
        """What the model has no place for, in sentences."""
        yield from self._chat.notes(conversation, settings)
        if conversation.images and not self._pictures:
            yield "This model is shown no pictures: those of earlier questions are left out."

    def _ids_of_the_beginning(self, conversation: Conversation, settings: GenerationSettings) -> list[int]:
        """What this engine made for the reply to go on with, or what its text encodes to."""
        made = self._made.get(conversation.messages[-1])
        if made is not None:
            return list(made)
        asked = self._encode(conversation.without_last_message(), settings)
        return self._encode(conversation, settings)[len(asked) :]

    def _remember(self, made: list[int], shown: Message) -> None:
        """Keep a reply's ids, to go on with it; where its text is just what they decode to, for later prompts too."""
        text = self._chat.tokenizer.decode(made)
        with self._remembering:
            _keep(self._made, shown, tuple(made))
            if text and text == shown.text and text == text.strip():
                _keep(self._spoken, text, Spoken(text, tuple(made)))


def _keep(memory: dict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    while len(memory) > REMEMBERED_REPLIES:
        del memory[next(iter(memory))]


def open_local(
    checkpoint: Checkpoint, table: Table, report: Report, request: LoadRequest = NOTHING_SAID
) -> LocalEngine:
    """Load `checkpoint` as `request` says, else as is best on this machine; `table` says how it is talked to.

    Raises:
        ModelError: it does not chat, is damaged, or needs code of its own.
        OutOfMemory: it does not fit.
    """
    table = table.saying(request.adapter)
    require_chat_format(checkpoint, table)
    require_readable(checkpoint)
    weights = read_weights(checkpoint)
    read_ahead(weights.files)
    tokenizer = read_tokenizer(checkpoint)
    chat = chat_format(checkpoint, tokenizer, table) if tokenizer else None
    report(Progress("starting"))
    from chatcli.runtime import loading

    with loading():
        from chatcli.runtime.load import load_tokenizer
        from chatcli.runtime.model import load

        chat = chat or chat_format(checkpoint, load_tokenizer(checkpoint), table)
        model = load(checkpoint, weights, report, request)
        if request.draft:
            draft = open_draft(Path(request.draft), checkpoint, chat.tokenizer)
            model.draft = load(
                # One that guesses decodes by no recorded step, for which `--compile` would take a minute.
                draft,
                read_weights(draft),
                report,
                LoadRequest(device=request.device, compile=request.compile and None),
            )
    return LocalEngine(checkpoint, chat, model)
