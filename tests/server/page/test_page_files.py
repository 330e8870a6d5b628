"""The page's files over HTTP, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page_parts import Answering, serving_page

from chatcli.server import page
from chatcli.server.api.guard import Guard

FOLDER = Path(page.__file__).parent


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A server that wants a key, and a client that has none."""
    with (
        serving_page({"small": Answering()}, Guard(keys=("secret",))) as address,
        httpx.Client(base_url=address) as client,
    ):
        yield client


def test_every_file_of_the_folder_is_served_without_a_key_and_under_the_policy(client: httpx.Client) -> None:
    there = {each.name for each in FOLDER.iterdir() if each.suffix not in {".py", ".pyc"} and each.is_file()}
    assert there == set(page.FILES)
    for name, media in page.FILES.items():
        answer = client.get("/" if name == "index.html" else f"/page/{name}")
        assert answer.status_code == 200 and answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"].split(";")[0] == media
        assert answer.headers["content-security-policy"] == page.POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.Client) -> None:
    tag = client.get("/page/app.js").headers["etag"]
    again = client.get("/page/app.js", headers={"If-None-Match": f'"another", W/{tag}'})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == tag
    assert client.get("/page/dom.js", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("path", ["/page/__init__.py", "/page/", "/page/../api/app.py", "/page/%2e%2e/api/app.py"])
def test_nothing_else_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 404


def test_the_page_names_no_other_host_and_has_no_way_from_a_string_to_markup() -> None:
    """The browser's policy forbids both; here is the line to mend, where somebody writes one."""
    for name in page.FILES:
        text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://[\w-]", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )


def test_the_page_stays_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in page.FILES) < 70_000
