"""A browser, the server, and a tab in which nothing goes wrong unseen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from page_parts import Answering, serving_page
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

expect.set_options(timeout=240_000)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; of a module, not of the run: playwright holds this thread's event loop while it lives."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def small() -> Answering:
    return Answering()


@pytest.fixture(scope="module")
def address(small: Answering) -> Iterator[str]:
    """Where two models are served, "small" and "large"."""
    with serving_page({"small": small, "large": Answering()}) as address:
        yield address
        small.go.set()


@pytest.fixture
def engine(small: Answering) -> Iterator[Answering]:
    """The model "small", as if nobody had asked it yet; who waits for it is answered at last."""
    small.asked.clear()
    small.settings.clear()
    small.cancelled = 0
    small.go.clear()
    yield small
    small.go.set()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past."""
    with browser.new_context() as context:
        context.set_default_timeout(240_000)
        yield context


@pytest.fixture
def tab(context: BrowserContext, address: str, engine: Answering) -> Iterator[Page]:
    """The page, opened. It may ask its own server only, and nothing in it may fail unseen."""
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    # Of requests as well as of what the policy refuses; a refused answer is shown to the person, not a complaint.
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Failed to load" not in said.text else None)
    page.goto(address)
    page.wait_for_selector("#model option", state="attached")
    yield page
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}
    assert complaints == []
