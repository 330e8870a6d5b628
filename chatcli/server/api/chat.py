"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from chatcli.conversation import Conversation
from chatcli.generation import Event, ToolCalled
from chatcli.openai.answers import ChatAnswer
from chatcli.openai.requests import ChatRequest, chat_request
from chatcli.server.api.answering import Answering
from chatcli.server.api.body import read
from chatcli.server.api.length import require_fitting
from chatcli.server.api.served import Served
from chatcli.server.api.service import service_of


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    service = service_of(request)
    asked = await read(
        request, partial(chat_request, sees=lambda name: service.model(name)[1].facts.sees is not False)
    )
    name, model = service.model(asked.ways.model)
    require_fitting(_lengths(asked.conversation), model.facts.context, service.limits.bytes_per_token, "messages")
    return Answering(
        service,
        name,
        ChatAnswer(name, include_usage=asked.ways.include_usage),
        [partial(_events, model, asked, choice) for choice in range(asked.ways.choices)],
        stream=asked.ways.stream,
    )


def _lengths(conversation: Conversation) -> list[int]:
    """Characters of each message, with the calls in it, and of each tool."""
    said = [
        len(message.text) + sum(len(call.name) + len(call.arguments) for call in message.calls)
        for message in conversation.messages
    ]
    return said + [len(tool.name) + len(tool.description) + len(tool.parameters) for tool in conversation.tools]


def _events(model: Served, asked: ChatRequest, choice: int) -> Generator[Event]:
    """The events of one choice; where the client wants one call at a time, those after the first are left out."""
    called = False
    with closing(model.stream(asked.conversation, asked.ways.settings_of(choice))) as events:
        for event in events:
            if isinstance(event, ToolCalled):
                if called and not asked.parallel_calls:
                    continue
                called = True
            yield event
