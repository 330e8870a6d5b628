"""What the web page costs: bytes and time until a question can be typed; and what an answer costs while it streams.

An answer of 20,000 characters comes in pieces of 40, a frame for each piece; beside it, the way of most pages: the
whole answer is built again each time (for the first half of it, since that grows with the square of the length).
The address of another page, such as a Gradio chat on this machine, is opened beside ours.

python benchmarks/web_page.py [ADDRESS]
"""

from __future__ import annotations

import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from markdown_stream import SHAPES
from playwright.sync_api import Browser, Request, sync_playwright

from chatcli.engines.scripted import ScriptedEngine
from chatcli.server.api.app import build_app
from chatcli.server.api.guard import Guard
from chatcli.server.page import page_routes

LENGTH = 20_000
PIECE = 40
OPENINGS = 3

COST = """async ([text, piece, again]) => {
  const { MarkdownStream } = await import("/page/markdown.js");
  const root = document.getElementById("log");
  root.replaceChildren();
  let stream = new MarkdownStream(root);
  const times = [];
  for (let at = piece; at <= text.length; at += piece) {
    const began = performance.now();
    if (again) {
      root.replaceChildren();
      stream = new MarkdownStream(root);
    }
    stream.show(text.slice(0, at), again);
    root.getBoundingClientRect();
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return [0.5, 0.99].map((share) => times[Math.floor(times.length * share)]);
}"""


def opened(browser: Browser, address: str) -> tuple[int, float, float]:
    """Requests, kB that came, and seconds until there is a field to type in, for who was never there."""
    with browser.new_context() as context:
        page = context.new_page()
        finished: list[Request] = []
        page.on("requestfinished", lambda request: finished.append(request))  # noqa: PLW0108  it marks what it is given
        began = time.perf_counter()
        page.goto(address)
        page.wait_for_selector("textarea")
        seconds = time.perf_counter() - began
        page.wait_for_timeout(2000)
        sizes = [request.sizes()["responseBodySize"] for request in finished]
    return len(sizes), sum(sizes) / 1000, seconds


@contextmanager
def served() -> Iterator[str]:
    """The address of our page."""
    app = build_app({"scripted": ScriptedEngine(["Yes."])}, Guard(), more_routes=page_routes())
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def text_of(name: str) -> str:
    """A text of a shape; what is one block stays one."""
    head, body = ("```python\n", SHAPES[name][10:]) if name == "one fence" else ("", SHAPES[name])
    return (head + body * (LENGTH // len(body) + 1))[:LENGTH]


def main() -> None:
    """Print two tables."""
    with served() as ours, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        print("| page | requests | kB | seconds until a field to type in (median) |\n|---|---|---|---|")
        for address in (ours, *sys.argv[1:2]):
            runs = [opened(browser, address) for _ in range(OPENINGS)]
            print(f"| {address} | {runs[0][0]} | {runs[0][1]:.0f} | {statistics.median(run[2] for run in runs):.2f} |")
        page = browser.new_page()
        page.goto(ours)
        print("\n| an answer of | way | ms a piece, median | 99th percentile |\n|---|---|---|---|")
        for name in SHAPES:
            text = text_of(name)
            for way, part, again in (("as it is", text, False), ("the whole again", text[: LENGTH // 2], True)):
                median, late = page.evaluate(COST, [part, PIECE, again])
                print(f"| {len(part):,} characters, {name} | {way} | {median:.2f} | {late:.1f} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
