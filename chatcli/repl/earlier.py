"""Earlier input: in a file that every chat of a person adds to, or in memory.

It knows prompt_toolkit's form of the file; it knows no prompt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

MOST_KEPT = 1 << 16
"""Characters of the longest input that goes into the file, which every chat reads when it begins."""


class PrivateHistory(FileHistory):
    """Earlier input in a file; what cannot be written is remembered until the end of the chat.

    `whole` gives the text that a shown input stands for: labels of pasted texts mean nothing in another chat.
    """

    def __init__(self, path: Path, whole: Callable[[str], str]) -> None:
        self._whole = whole
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        """Add one input to the file, in one write, so that several chats do not mix their lines."""
        text = without_surrogates(self._whole(string))
        if len(text) > MOST_KEPT:
            return
        lines = "".join(f"+{line}\n" for line in text.split("\n"))
        with suppress(OSError), Path(self.filename).open("ab", buffering=0) as file:  # type: ignore[arg-type]
            file.write(f"\n# {datetime.now()}\n{lines}".encode())


def earlier_input(path: Path, whole: Callable[[str], str]) -> History:
    """Earlier input, in a file that nobody else can read; in memory where there can be no file."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        return PrivateHistory(path, whole)
    return InMemoryHistory()


def without_surrogates(text: str) -> str:
    """Bytes of a terminal that are no UTF-8 arrive as lone surrogates, which nothing further on can take."""
    return text.encode("utf-8", "replace").decode("utf-8")
