"""What HTTP adds: tokens a second through the API against the engine itself, and how soon a client that leaves is gone.

python benchmarks/serving_http.py [--rounds 5] [--leave 50]
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from chatcli import guide
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.concurrent import ConcurrentEngine
from chatcli.engines.local import open_local
from chatcli.generation import Event, Finished, GenerationSettings, Text
from chatcli.models.checkpoint import open_checkpoint
from chatcli.server.api.app import build_app
from chatcli.server.api.guard import Guard
from chatcli.server.api.listening import bind_tcp, url

QUESTION = "What do all the exit codes mean, and what do I do about each of them?"
TOKENS = 200


class Watched(ConcurrentEngine):
    """Notes when a stream was closed."""

    closed = 0.0

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """As it is."""
        try:
            yield from super().stream(conversation, settings)
        finally:
            self.closed = time.perf_counter()


@contextmanager
def serving(model: ConcurrentEngine) -> Iterator[str]:
    """The address of a server in a thread."""
    bound = bind_tcp("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app({"guide": model}, Guard()), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield url(bound)
    server.should_exit = True
    thread.join()


def direct(model: ConcurrentEngine) -> tuple[float, float]:
    """Seconds to the first piece and tokens a second, of the engine."""
    begun, first = time.perf_counter(), 0.0
    asked = Conversation((Message("user", QUESTION),))
    for event in model.stream(asked, GenerationSettings(temperature=1, seed=1, max_new_tokens=TOKENS)):
        if isinstance(event, Text):
            first = first or time.perf_counter() - begun
        if isinstance(event, Finished):
            return first, event.completion_tokens / (time.perf_counter() - begun)
    raise AssertionError


def over_http(client: httpx.Client, address: str) -> tuple[float, float]:
    """The same through the API."""
    begun, first = time.perf_counter(), 0.0
    asked = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "temperature": 1, "seed": 1}
    asked |= {"max_tokens": TOKENS, "stream_options": {"include_usage": True}}
    with client.stream("POST", f"{address}/v1/chat/completions", json=asked) as answer:
        for line in answer.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                first = first or time.perf_counter() - begun
            if '"completion_tokens"' in line:
                made = json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
    return first, made / (time.perf_counter() - begun)


def leave(address: str, model: Watched) -> float:
    """Seconds from a client's leaving in the middle of an answer until its generator is closed."""
    model.closed = 0.0
    asked = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 1000}
    asked |= {"response_format": {"type": "json_object"}}
    with httpx.Client() as client, client.stream("POST", f"{address}/v1/chat/completions", json=asked) as answer:
        lines = (line for line in answer.iter_lines() if line)
        for _ in range(5):
            next(lines)
        left = time.perf_counter()
    while not model.closed:
        time.sleep(0.0005)
    return model.closed - left


def main() -> None:
    """Both ways in turn, medians and their ratio; then the leaving clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--leave", type=int, default=50)
    said = parser.parse_args()
    model = Watched(open_local(open_checkpoint(guide.folder(), guide.NAME), shipped(), lambda progress: None))
    found: dict[str, list[tuple[float, float]]] = {"engine": [], "HTTP": []}
    with serving(model) as address, httpx.Client() as client:
        over_http(client, address)
        for _ in range(said.rounds):
            found["engine"].append(direct(model))
            found["HTTP"].append(over_http(client, address))
        gone = sorted(leave(address, model) for _ in range(said.leave))
    model.close()
    print("| way | first piece, ms | tokens a second |\n|---|---|---|")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (first, rate) in medians.items():
        print(f"| {name} | {first * 1000:.1f} | {rate:.0f} |")
    print(f"\nHTTP / engine, tokens a second: {medians['HTTP'][1] / medians['engine'][1]:.2f}")
    print(
        f"a client that leaves is gone after {statistics.median(gone) * 1000:.1f} ms, at most {gone[-1] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
