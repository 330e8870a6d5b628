"""While a person pauses in typing, the model reads what is there; when they send it, it is read already.

What they change is dropped without a trace. It knows text, a pause and a session; no key and no screen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress

from chatcli.errors import ChatcliError
from chatcli.repl.attach import mentioned
from chatcli.repl.state import Chat

PAUSE_SECONDS = 0.5
WORTH_READING = 300
"""Characters below which a question is read in no time anyway."""


class ReadAhead:
    """Reads the draft of the next message in a thread of its own, one at a time."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._reading = threading.Lock()
        self._outdated = threading.Event()
        self._timer: threading.Timer | None = None

    def typed(self, text: Callable[[], str]) -> None:
        """The draft has changed; `text` gives it whole, and is called only after a pause. Never waits."""
        self._drop()
        self._outdated = threading.Event()
        self._timer = threading.Timer(PAUSE_SECONDS, self._read, (text, self._outdated))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Read no further, and wait for the step under way: the model is somebody else's from now on."""
        self._drop()
        with self._reading:
            pass

    def _drop(self) -> None:
        self._outdated.set()
        if self._timer:
            self._timer.cancel()

    def _read(self, text: Callable[[], str], outdated: threading.Event) -> None:
        with self._reading:
            if outdated.is_set():  # between the pause and the lock
                return
            draft = text().strip("\n").rstrip()
            # A command is not for the model, and a file that is named in it would stand before it.
            if len(draft) < WORTH_READING or draft.startswith("/") or next(mentioned(draft), None):
                return
            with suppress(ChatcliError), closing(self._chat.session.prepare(draft, self._chat.attached)) as steps:
                for _ in steps:
                    if outdated.is_set():
                        return
