"""A model that answers by the question, and the real server of it and of the page."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import uvicorn

from chatcli.conversation import Conversation
from chatcli.engines.scripted import ScriptedEngine, Step
from chatcli.generation import Event, GenerationSettings, Progress, Text
from chatcli.server.api.app import build_app
from chatcli.server.api.guard import Guard
from chatcli.server.api.service import Limits
from chatcli.server.page import page_routes


class Answering(ScriptedEngine):
    """Answers each question with its script in `scripts`, others with themselves.

    A question that begins with "Wait" gets "The beginning. " and, when `go` is set, "The end.".
    """

    def __init__(self) -> None:
        super().__init__([""])
        self.scripts: dict[str, str | Sequence[Step]] = {}
        self.settings: list[GenerationSettings] = []
        self.go = threading.Event()

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        self.settings.append(settings)
        self.asked.append(conversation)
        question = conversation.messages[-1].text
        if question.startswith("Wait"):
            yield from self._waits()
        script = "The end." if question.startswith("Wait") else self.scripts.get(question, f"You said: {question}")
        yield from ScriptedEngine([script]).stream(conversation, settings)

    def _waits(self) -> Generator[Event]:
        try:
            yield Text("The beginning. ")
            while not self.go.wait(0.02):
                yield Progress("waiting", 0, 0)
        except GeneratorExit:
            self.cancelled += 1
            raise


@contextmanager
def serving_page(
    models: Mapping[str, Answering], guard: Guard | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """The address of the page of a server of `models`."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(models, guard or Guard(), limits, more_routes=page_routes())
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
