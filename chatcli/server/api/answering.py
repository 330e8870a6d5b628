"""One answer on its way to one client: let in, made in threads, told whole or as server-sent events.

A client that leaves has its generators closed at once. It knows events and answers, no request and no engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import suppress

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatcli.errors import ChatcliError
from chatcli.generation import Finished, Made, Progress
from chatcli.openai.answers import Answer, Json, Said
from chatcli.openai.errors import ApiError, api_error
from chatcli.server.api.defects import tell_of
from chatcli.server.api.sending import EventSender, JsonResponse, event_data
from chatcli.server.api.service import Service
from chatcli.server.carrying import Carried

LOOK_SECONDS = 1.0
"""How often a stream without events is looked after."""

Make = Callable[[], Generator[Made]]


class Answering(Response):
    """The answer to one request for `model`, of as many choices as `make` makes generators."""

    def __init__(self, service: Service, model: str, answer: Answer, make: Sequence[Make], *, stream: bool) -> None:
        self.background = None
        self._service = service
        self._model = model
        self._answer = answer
        self._make = make
        self._streams = stream
        self._begun = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let it be where the client has left."""
        finished = await _unless_left(self._answered(scope, receive, send), receive)
        if not finished:
            self._service.metrics.cancelled.labels(self._model).inc()

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        out = EventSender(send)
        try:
            with anyio.fail_after(self._service.limits.seconds):
                async with (
                    self._service.admission.place(len(self._make)),
                    Carried(self._make, self._service.pool) as carried,
                ):
                    whole = await (self._stream(carried, out) if self._streams else self._gather(carried))
        except Exception as error:
            failure = self._failure(error)
            if not out.started:
                raise failure from error
            await out.write(event_data(failure.body))
            await out.end()
            return
        if whole is None:
            await out.write(b"data: [DONE]\n\n")
            await out.end()
        else:
            await JsonResponse(whole)(scope, receive, send)

    async def _gather(self, carried: Carried[Made]) -> Json:
        """All that comes, as one answer."""
        said = [Said() for _ in self._make]
        async for come in _until_the_end(carried, len(said)):
            for number, event in come:
                self._note(event)
                said[number].add(event)
        return self._answer.whole(said)

    async def _stream(self, carried: Carried[Made], out: EventSender) -> None:
        """Tell what comes as it comes.

        A choice is opened when its prompt has proved right, so that what is wrong with it has a status of its own.
        """
        ends: dict[int, Finished] = {}
        opened: set[int] = set()
        async for come in _until_the_end(carried, len(self._make)):
            chunks: list[Json | None] = []
            for number, event in come:
                self._note(event)
                if number not in opened and not (isinstance(event, Progress) and not event.total):
                    opened.add(number)
                    chunks.append(self._answer.first(number))
                if isinstance(event, Finished):
                    ends[number] = event
                chunks.append(self._answer.chunk(number, event))
            await out.write(b"".join(map(event_data, filter(None, chunks))))
        if last := self._answer.last([end for _, end in sorted(ends.items())]):
            await out.write(event_data(last))

    def _note(self, event: Made) -> None:
        """Count what an event tells."""
        metrics = self._service.metrics
        if self._begun and not isinstance(event, Progress):
            metrics.seconds_to_first.labels(self._model).observe(time.monotonic() - self._begun)
            self._begun = 0.0
        if isinstance(event, Finished):
            metrics.prompt_tokens.labels(self._model).inc(event.prompt_tokens)
            metrics.cached_tokens.labels(self._model).inc(event.cached_tokens)
            metrics.completion_tokens.labels(self._model).inc(event.completion_tokens)

    def _failure(self, error: Exception) -> ApiError:
        """What the client is told of an error."""
        match error:
            case ApiError():
                return error
            case TimeoutError():
                return ApiError(408, f"The answer took longer than {self._service.limits.seconds:.0f} seconds.")
            case ChatcliError():
                return api_error(error, self._model, self._service.models[self._model].facts, self._answer.prompt)
            case _:
                tell_of(error)
                return ApiError(500, "The server had an error while processing your request.")


async def _until_the_end(carried: Carried[Made], going: int) -> AsyncGenerator[list[tuple[int, Made]]]:
    """The events of `going` generators as they come; an empty list where for some time there are none."""
    while going:
        come: list[tuple[int, Made | Exception | None]] = []
        with anyio.move_on_after(LOOK_SECONDS):
            come = await carried.some()
        events = [(number, event) for number, event in come if event and not isinstance(event, Exception)]
        if events or not come:
            yield events
        for _, event in come:
            if isinstance(event, Exception):
                raise event
            going -= event is None


async def _unless_left(work: Coroutine[None, None, None], receive: Receive) -> bool:
    """Do the work, or break it off when the client leaves; returns whether it was done."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in (leaving, working):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
