"""Replies as the OpenAI API tells them: whole, or event by event in chunks.

It knows events and JSON objects; how these travel is the server's.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from chatcli import __version__
from chatcli.generation import Embedded, Event, Finished, Reasoning, Text, TokenLogprob, ToolCalled

Json = dict[str, Any]


@dataclass
class Said:
    """What one reply has come to."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCalled] = field(default_factory=list)
    vectors: Sequence[Sequence[float]] = ()
    finished: Finished = field(default_factory=lambda: Finished("error"))

    def add(self, event: Event) -> None:
        """Take in the next event."""
        match event:
            case Text(text):
                self.text += text
            case Reasoning(text):
                self.reasoning += text
            case ToolCalled():
                self.calls.append(event)
            case Embedded(vectors):
                self.vectors = vectors
            case Finished():
                self.finished = event


class Answer(Protocol):
    """How one request is answered; `prompt` is the request's field that says what is to be answered."""

    prompt: ClassVar[str]

    def first(self, choice: int) -> Json | None:
        """The chunk that opens a choice, if there is one."""
        ...

    def chunk(self, choice: int, event: Event) -> Json | None:
        """The chunk for an event; None where a client is told nothing of it."""
        ...

    def last(self, ends: Sequence[Finished]) -> Json | None:
        """The chunk after all choices, if there is one."""
        ...

    def whole(self, choices: Sequence[Said]) -> Json:
        """The answer in one piece."""
        ...


class ChatAnswer:
    """An answer of /v1/chat/completions."""

    prompt: ClassVar[str] = "messages"

    def __init__(self, model: str, *, include_usage: bool = False) -> None:
        self._head = _head("chatcmpl", model)
        self._include_usage = include_usage
        self._calls: Counter[int] = Counter()
        self._told: Counter[int] = Counter()

    def first(self, choice: int) -> Json:
        """Who speaks."""
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def chunk(self, choice: int, event: Event) -> Json | None:
        """A piece of text, of reasoning, a call, or the end with its reason."""
        match event:
            case Text(text, logprobs):
                return self._chunk(choice, {"content": text}, logprobs)
            case Reasoning(text, logprobs):
                return self._chunk(choice, {"reasoning_content": text}, logprobs)
            case ToolCalled():
                index = self._calls[choice]
                self._calls[choice] += 1
                return self._chunk(choice, {"tool_calls": [{"index": index, **_call(event)}]})
            case Finished():
                return self._chunk(choice, {}, event.logprobs[self._told[choice] :], event)
            case _:
                return None

    def last(self, ends: Sequence[Finished]) -> Json | None:
        """The usage, for who asked for it."""
        if not self._include_usage:
            return None
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(ends)}

    def whole(self, choices: Sequence[Said]) -> Json:
        """The completion."""
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": _message(said),
                    "logprobs": chat_logprobs(said.finished.logprobs),
                    "finish_reason": _reason(said.finished),
                }
                for index, said in enumerate(choices)
            ],
            "usage": usage([said.finished for said in choices]),
        }

    def _chunk(
        self, choice: int, delta: Json, logprobs: Sequence[TokenLogprob] = (), finished: Finished | None = None
    ) -> Json:
        self._told[choice] += len(logprobs)
        told = {
            "index": choice,
            "delta": delta,
            "logprobs": chat_logprobs(logprobs),
            "finish_reason": _reason(finished) if finished else None,
        }
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [told]}
        return {**chunk, "usage": None} if self._include_usage else chunk


class TextAnswer:
    """An answer of /v1/completions; choices are numbered prompt by prompt, `per_prompt` for each."""

    prompt: ClassVar[str] = "prompt"

    def __init__(self, model: str, *, per_prompt: int = 1, include_usage: bool = False) -> None:
        self._head = {**_head("cmpl", model), "object": "text_completion"}
        self._include_usage = include_usage
        self._per_prompt = per_prompt
        self._told: Counter[int] = Counter()
        self._length: Counter[int] = Counter()

    def first(self, choice: int) -> Json | None:
        """Nothing."""
        return None

    def chunk(self, choice: int, event: Event) -> Json | None:
        """A piece of text, or the end with its reason."""
        match event:
            case Text(text, logprobs) | Reasoning(text, logprobs):
                return self._chunk(choice, text, logprobs)
            case Finished():
                return self._chunk(choice, "", event.logprobs[self._told[choice] :], event)
            case _:
                return None

    def last(self, ends: Sequence[Finished]) -> Json | None:
        """The usage, for who asked for it."""
        return {**self._head, "choices": [], "usage": usage(ends, self._per_prompt)} if self._include_usage else None

    def whole(self, choices: Sequence[Said]) -> Json:
        """The completion."""
        told = [
            _text_choice(index, said.reasoning + said.text, text_logprobs(said.finished.logprobs), said.finished)
            for index, said in enumerate(choices)
        ]
        ends = [said.finished for said in choices]
        return {**self._head, "choices": told, "usage": usage(ends, self._per_prompt)}

    def _chunk(
        self, choice: int, text: str, logprobs: Sequence[TokenLogprob], finished: Finished | None = None
    ) -> Json:
        weighed = text_logprobs(logprobs, self._length[choice])
        self._told[choice] += len(logprobs)
        self._length[choice] += sum(len(each.text) for each in logprobs)
        chunk = {**self._head, "choices": [_text_choice(choice, text, weighed, finished)]}
        return {**chunk, "usage": None} if self._include_usage else chunk


def usage(ends: Sequence[Finished], per_prompt: int = 0) -> Json:
    """Tokens of all choices; a prompt counts once for its `per_prompt` choices, which 0 says are all."""
    prompts = ends[:: per_prompt or max(len(ends), 1)]
    prompt = sum(each.prompt_tokens for each in prompts)
    completion = sum(each.completion_tokens for each in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in prompts)},
    }


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> Json | None:
    """Tokens with their probabilities, as the chat API has them."""
    if not tokens:
        return None
    return {
        "content": [{**_logprob(each), "top_logprobs": [_logprob(other) for other in each.top]} for each in tokens],
        "refusal": None,
    }


def text_logprobs(tokens: Sequence[TokenLogprob], offset: int = 0) -> Json | None:
    """The same, as the completions API has them; offsets are characters of the answer, of which `offset` were before."""
    if not tokens:
        return None
    offsets = [offset]
    for each in tokens[:-1]:
        offsets.append(offsets[-1] + len(each.text))
    return {
        "tokens": [each.text for each in tokens],
        "token_logprobs": [_finite(each) for each in tokens],
        "top_logprobs": [{other.text: _finite(other) for other in each.top} for each in tokens],
        "text_offset": offsets,
    }


def _head(prefix: str, model: str) -> Json:
    """What all of an answer's objects begin with."""
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"chatcli-{__version__}",
    }


def _message(said: Said) -> Json:
    message: Json = {"role": "assistant", "content": said.text or (None if said.calls else ""), "refusal": None}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.calls:
        message["tool_calls"] = [_call(each) for each in said.calls]
    return message


def _call(called: ToolCalled) -> Json:
    function = {"name": called.call.name, "arguments": called.call.arguments}
    return {"id": called.call.id, "type": "function", "function": function}


def _text_choice(index: int, text: str, logprobs: Json | None, finished: Finished | None) -> Json:
    return {
        "index": index,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": _reason(finished) if finished else None,
    }


def _logprob(token: TokenLogprob) -> Json:
    # The bytes of a token that is half a character are not known here.
    whole = "\ufffd" not in token.text
    return {"token": token.text, "logprob": _finite(token), "bytes": list(token.text.encode()) if whole else None}


def _finite(token: TokenLogprob) -> float:
    """JSON has no infinity; the API says this for what cannot be."""
    return max(token.logprob, -9999.0)


def _reason(finished: Finished) -> str:
    return finished.reason if finished.reason in ("length", "tool_calls") else "stop"
