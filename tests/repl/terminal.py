"""A terminal of given size with a program in it; tests look at its screen, never at raw output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

CHAT = Path(__file__).with_name("scripted_chat.py")
PATIENCE_SECONDS = 30
UNSET = ("NO_COLOR", "CHATCLI_DEBUG", "VISUAL", "EDITOR")


class Terminal:
    """The scripted chat in a pseudo-terminal; lines that scroll off the top stay readable in `text`.

    `more` are variables of its environment.
    """

    def __init__(
        self,
        home: Path,
        *arguments: str,
        command: tuple[str, ...] = (sys.executable, str(CHAT)),
        columns: int = 80,
        rows: int = 24,
        term: str = "xterm",
        **more: str,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=1)
        self.screen.write_process_input = self._answer  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        variables = {name: value for name, value in os.environ.items() if name not in UNSET}
        self.child = pexpect.spawn(
            command[0],
            [*command[1:], *arguments],
            dimensions=(rows, columns),
            env={**variables, "TERM": term, "CHATCLI_HOME": str(home), "LC_ALL": "C.UTF-8", **more},
        )

    def _answer(self, data: str) -> None:
        self.child.send(data)  # where the cursor is, when the program asks

    @property
    def text(self) -> str:
        """What was scrolled off and what is on the screen, without blanks at line ends."""
        above = ["".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self.screen.display])

    def send(self, keys: str) -> None:
        """Type, however much it is, showing what the program writes meanwhile."""
        data = keys.encode()
        time.sleep(0.05)  # nobody presses a key at once after another
        while data:
            data = data[os.write(self.child.child_fd, data[:4096]) :]
            if data:
                self._show(0)

    def resize(self, columns: int, rows: int) -> None:
        self.child.setwinsize(rows, columns)
        self.screen.resize(rows, columns)

    def pump(self, seconds: float) -> None:
        """Show what the program writes during `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._show(min(left, 0.05)):
            pass

    def _show(self, seconds: float) -> bool:
        """Show what the program writes within `seconds`; False where it has ended."""
        try:
            piece = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += piece
        self._stream.feed(piece)
        return True

    def wait(self, wanted: str | Callable[[str], bool]) -> None:
        """Wait until the screen shows it."""
        until = time.monotonic() + PATIENCE_SECONDS
        shown: Callable[[str], bool] = wanted if callable(wanted) else lambda text: wanted in text
        while not shown(self.text):
            assert time.monotonic() < until, f"not on the screen: {wanted}\n{self.text}"
            self.pump(0.05)

    def exit_code(self) -> int:
        """Wait for the program's end."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.child.isalive():
            assert time.monotonic() < until, f"still running:\n{self.text}"
            self.pump(0.05)
        self.pump(0.05)
        assert self.child.exitstatus is not None, self.child.signalstatus
        return int(self.child.exitstatus)

    def close(self) -> None:
        self.child.close(force=True)
