"""A chat in a pseudo-terminal, and what it has stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from terminal import Terminal

from chatcli.history.store import Store

Open = Callable[..., Terminal]


@pytest.fixture
def open_chat(tmp_path: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def opening(*arguments: str, **options: object) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield opening
    for each in opened:
        each.close()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[], list[tuple[str, str]]]:
    def read() -> list[tuple[str, str]]:
        with closing(Store.open(tmp_path / "data" / "history.db")) as store:
            latest = next((summary.id for summary in store.recent(1)), None)
            return [(m.role, m.text) for m in store.load(latest).messages] if latest else []

    return read
