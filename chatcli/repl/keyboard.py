"""The terminal's keys for prompt_toolkit, with pastes of any size.

prompt_toolkit 3 looks through all of a paste again at every kilobyte that comes: minutes for 10 MB, against a second
here. It knows bytes and keys; it knows no prompt.
"""

from __future__ import annotations

import sys
from typing import TextIO

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

PASTE_END = "\x1b[201~"


class PasteParser(Vt100Parser):
    """prompt_toolkit's parser of what a terminal sends; the time that a paste takes grows with its length only."""

    def __init__(self, feed_key_callback: object) -> None:
        super().__init__(feed_key_callback)  # type: ignore[arg-type]
        self._pieces: list[str] = []
        self._seen = ""

    @property
    def in_paste(self) -> bool:
        """Whether the end of a paste is still to come."""
        return self._in_bracketed_paste

    def feed(self, data: str) -> None:
        """Take what came; hands on keys, and each paste as one key."""
        if not self._in_bracketed_paste:
            super().feed(data)
            return
        self._pieces.append(data)
        self._seen = self._seen[-len(PASTE_END) + 1 :] + data
        at = self._seen.find(PASTE_END)
        if at < 0:
            return
        rest = self._seen[at + len(PASTE_END) :]
        whole = "".join(self._pieces)
        self._pieces, self._seen, self._in_bracketed_paste = [], "", False
        self.feed_key_callback(KeyPress(Keys.BracketedPaste, whole[: len(whole) - len(rest) - len(PASTE_END)]))
        self.feed(rest)


def keyboard(stream: TextIO) -> Input | None:
    """The keys of a terminal; None where prompt_toolkit shall find them by itself."""
    if sys.platform == "win32" or not stream.isatty():
        return None
    from prompt_toolkit.input.vt100 import Vt100Input

    class Keyboard(Vt100Input):
        def __init__(self) -> None:
            super().__init__(stream)
            self._parser = self.vt100_parser = PasteParser(self._buffer_key)

        def _buffer_key(self, key: KeyPress) -> None:
            self._buffer.append(key)

        def read_keys(self) -> list[KeyPress]:
            """What came; of a paste, all that has come, so that nothing is drawn in between."""
            keys = super().read_keys()
            while self._parser.in_paste and (more := self.stdin_reader.read(1 << 16)):
                self._parser.feed(more)
                keys += self._buffer
                self._buffer = []
            return keys

    return Keyboard()


def type_ahead(keys: Input, typed: str) -> None:
    """Have the next prompt that reads `keys` begin with what was typed before it was there."""
    presses: list[KeyPress] = []
    parser = PasteParser(presses.append)
    parser.feed(typed)
    parser.flush()
    store_typeahead(keys, presses)
