"""The stream of a chat completion as our events, in all the ways in which servers write one.

JSON in, `Text`, `Reasoning`, `ToolCalled` out, clean as local text is; how it ended and what it cost is kept. It
opens no connection and measures no time.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chatcli.conversation import ToolCall
from chatcli.generation import Event, FinishReason, Reasoning, Text, TokenLogprob, ToolCalled
from chatcli.openai.kinds import ServerKind, at
from chatcli.openai.sse import EventStream
from chatcli.streaming.reasoning import ReasoningSplitter
from chatcli.streaming.sanitize import sanitize

MOST_CALLS = 128
MOST_TOKENS = 1 << 53
"""What every program reads of JSON as a whole number; databases end soon after."""
MOST_CHARACTERS = 32 << 20
"""A longer answer is no answer: a server that never ends must not fill the memory."""


class ServerFailure(Exception):
    """The server says in the middle of its stream that it failed; the text is its own sentence."""


class _NoJson(ServerFailure):
    """It sends something else."""


class Answer:
    """Takes the bytes of an answer, in pieces of any length; `inside` says that it begins with thoughts, untold.

    Attributes:
        done: the server has said that this was all.
        reason: how the answer ended, None until the server says so.
        filtered: the server's filter ended it.
        pieces: how many pieces of text and thoughts came: tokens, mostly.
        prompt_tokens, completion_tokens, cached_tokens: what the server counted, 0 where it does not.
    """

    def __init__(self, kind: ServerKind, *, inside: bool = False) -> None:
        self.done = False
        self.reason: FinishReason | None = None
        self.filtered = False
        self.pieces = self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self._kind = kind
        self._stream = EventStream()
        self._splitter = ReasoningSplitter(inside=inside)
        self._thought = self._spoke = False
        self._length = 0
        self._calls: list[_Call] = []
        self._under_way: dict[int, _Call] = {}  # by the index that the server gives them

    def push(self, data: bytes) -> Generator[Event]:
        """The events that the bytes make certain, those before a failure as well.

        Raises:
            ServerFailure: the server failed, or sends what is no answer.
        """
        try:
            said = self._stream.push(data)
        except ValueError as error:
            raise ServerFailure(f"it sends {error}") from error
        yield from self._all(said)

    def flush(self) -> Generator[Event]:
        """What was held back, at the end of the stream; of one that was cut, no call of a tool.

        Raises:
            ServerFailure: as `push`.
        """
        failure: ServerFailure | None = None
        try:
            yield from self._all(self._stream.flush())
        except _NoJson:  # the beginning of an event: the stream was cut
            pass
        except ServerFailure as error:
            failure = error
        yield from self._shown(self._splitter.flush())
        if failure:
            raise failure
        calls, self._calls = self._calls, []
        if self.reason or self.done:
            if calls and self.reason != "length":  # where the caller named the tool, some call that a stop
                self.reason = "tool_calls"
            yield from (ToolCalled(call.whole(number)) for number, call in enumerate(calls))

    def whole(self, data: bytes) -> Generator[Event]:
        """The events of an answer that comes as one object, from a server that does not stream."""
        yield from self._object(data.decode("utf-8", "replace"))
        self.done = True
        yield from self.flush()

    def _all(self, said: list[str]) -> Generator[Event]:
        for each in said:
            if not self.done:
                yield from self._object(each)

    def _object(self, text: str) -> Generator[Event]:
        if text.strip() in ("", "[DONE]"):
            self.done = bool(text.strip())
            return
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _NoJson(f"it sends what is no JSON: {sanitize(text[:60], single_line=True)}") from error
        try:
            yield from self._meant(said)
        except RecursionError as error:
            raise _NoJson("it sends JSON that is nested too deeply") from error

    def _meant(self, said: object) -> Generator[Event]:
        """The events of an object that came."""
        if not isinstance(said, dict):
            return
        choices = said.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        failed = said if said.get("error") or said.get("object") == "error" else choice if choice.get("error") else None
        if failed:
            raise ServerFailure(sentence(failed, self._kind))
        self._count(said)
        self._logprobs(at(choice, "logprobs.content"))
        yield from self._delta(choice.get("delta") or choice.get("message") or {})
        self._ended(choice.get("finish_reason"))

    def _delta(self, delta: Any) -> list[Event]:
        if not isinstance(delta, dict):
            return []
        thought = next((text for path in self._kind.reasoning if (text := _words(at(delta, path)))), "")
        if thought and not self._thought:  # a server that tells thoughts apart has none in its text
            self._splitter = ReasoningSplitter()
        events = self._shown(_thoughts(thought))
        content = delta.get("content")
        if isinstance(content, list):  # parts, of which some are thoughts
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else ""
                words = _words(part)
                events += self._shown(_thoughts(words) if kind == "thinking" else self._text(words))
        elif isinstance(content, str):
            events += self._shown(self._text(content))
        calls = delta.get("tool_calls")
        for each in calls if isinstance(calls, list) else ():
            self._call(each)
        return events

    def _text(self, text: str) -> list[Text | Reasoning]:
        if self._thought and not self._spoke:  # thoughts came beside it: what follows them is white space
            text = text.lstrip()
        return self._splitter.push(sanitize(text)) if text else []

    def _shown(self, events: list[Text | Reasoning]) -> list[Event]:
        for event in events:
            self._thought = self._thought or isinstance(event, Reasoning)
            self._spoke = self._spoke or isinstance(event, Text)
            self.pieces += 1
            self._grow(len(event.text))
        return list(events)

    def _grow(self, by: int) -> None:
        self._length += by
        if self._length > MOST_CHARACTERS:
            raise ServerFailure("its answer does not end")

    def _call(self, said: Any) -> None:
        """A fragment of a tool call; some servers have no index, or the same one for all calls."""
        if not isinstance(said, dict):
            return
        number, index, function = str(said.get("id") or ""), said.get("index"), said.get("function")
        function = function if isinstance(function, dict) else {}
        key = index if isinstance(index, int) else -1
        call = self._under_way.get(key)
        if call is None or (number and number != call.id and (call.id or function.get("name"))):
            if len(self._calls) >= MOST_CALLS:
                raise ServerFailure("it asks for too many tools at once")
            call = self._under_way[key] = _Call()
            self._calls.append(call)
        call.add(number, function)

    def _count(self, said: Mapping[str, Any]) -> None:
        usage = said.get("usage") or at(said, "x_groq.usage")
        if isinstance(usage, dict):
            self.prompt_tokens = number(usage.get("prompt_tokens")) or self.prompt_tokens
            self.completion_tokens = number(usage.get("completion_tokens")) or self.completion_tokens
        cached = (count for path in self._kind.cached if (count := number(at(said, path))))
        self.cached_tokens = next(cached, self.cached_tokens)

    def _logprobs(self, content: object) -> None:
        if isinstance(content, list):
            found = [each for said in content if (each := _logprob(said))]
            self._grow(sum(1 + len(each.top) for each in found))
            self.logprobs += found

    def _ended(self, reason: object) -> None:
        if not isinstance(reason, str) or not reason:
            return
        meaning = self._kind.finish.get(reason, "stop")
        if meaning == "failed":
            raise ServerFailure(f"it broke off its answer ({sanitize(reason[:40], single_line=True)})")
        self.filtered = meaning == "filtered"
        self.reason = "length" if meaning == "length" else "tool_calls" if meaning == "tool_calls" else "stop"


class _Call:
    """A tool call as it comes in fragments; its id and name come once or with every one."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self._arguments: list[str] = []
        self._length = 0

    def add(self, number: str, function: Mapping[str, Any]) -> None:
        """Take in a fragment.

        Raises:
            ServerFailure: there are too many.
        """
        self.id = self.id or number
        self.name = self.name or str(function.get("name") or "")
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments is not None else ""
        self._length += len(text)
        if self._length > MOST_CHARACTERS:
            raise ServerFailure("the arguments of its tool call do not end")
        self._arguments.append(text)

    def whole(self, number: int) -> ToolCall:
        """The call; a server that gives it no id gets one made, for the answer must name it."""
        name = sanitize(self.name, single_line=True)
        return ToolCall(
            sanitize(self.id, single_line=True) or f"call_{number}", name, sanitize("".join(self._arguments)) or "{}"
        )


def sentence(said: object, kind: ServerKind) -> str:
    """What an error's JSON says to people, in one line; empty where it says nothing."""
    for path in kind.error:
        found = at(said, path)
        if isinstance(found, list):  # of a validation: a sentence for each field
            found = "; ".join(
                f"{'.'.join(map(str, place))}: {each.get('msg', '')}" if place else str(each.get("msg", ""))
                for each in found
                if isinstance(each, dict)
                for place in [each.get("loc") if isinstance(each.get("loc"), list) else None]
            )
        if isinstance(found, str) and found.strip():
            return sanitize(found.strip(), single_line=True)[:500]
    return ""


def _thoughts(text: str) -> list[Text | Reasoning]:
    clean = sanitize(text)
    return [Reasoning(clean)] if clean else []


def _words(value: object, depth: int = 4) -> str:
    """The text in a field that is a text, a part or a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(_words(each, depth - 1) for each in value)
    if isinstance(value, dict) and depth:
        found = (value[key] for key in ("text", "summary", "thinking", "content") if value.get(key))
        return _words(next(found, ""), depth - 1)
    return ""


def number(value: object) -> int:
    """A count of tokens; 0 where it is none, or one that nobody could have counted."""
    return value if type(value) is int and 0 < value < MOST_TOKENS else 0


def _logprob(said: object) -> TokenLogprob | None:
    """A token, with those beside it, which have none beside them."""
    top = said.get("top_logprobs") if isinstance(said, dict) else None
    others = tuple(found for each in top if (found := _token(each))) if isinstance(top, list) else ()
    token = _token(said)
    return replace(token, top=others) if token else None


def _token(said: object) -> TokenLogprob | None:
    if not isinstance(said, dict) or not isinstance(said.get("logprob"), int | float):
        return None
    with suppress(OverflowError):  # of an integer without end
        number = said.get("id")
        text = sanitize(str(said.get("token", "")))
        return TokenLogprob(number if isinstance(number, int) else -1, text, float(said["logprob"]))
    return None
