"""A terminal of given size with a program in it; tests look at its screen, never at raw output."""

from __future__ import annotations

import os
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte

CHAT = Path(__file__).with_name("scripted_chat.py")
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
        self._home = home
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

    @property
    def reads_keys(self) -> bool:
        """Whether a Ctrl-C is a key now and no signal: a dumb terminal shows the prompt a moment before."""
        return not termios.tcgetattr(self.child.child_fd)[3] & termios.ISIG

    def resize(self, columns: int, rows: int) -> None:
        self.child.setwinsize(rows, columns)
        self.screen.resize(rows, columns)

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
        """Wait until the screen shows it; the test's own limit of time is the only one."""
        shown: Callable[[str], bool] = wanted if callable(wanted) else lambda text: wanted in text
        with self._shown_if_it_fails(f"not on the screen: {wanted}"):
            while not shown(self.text):
                assert self._show(0.05) or shown(self.text), "the program has ended"

    def exit_code(self) -> int:
        """Wait for the program's end."""
        with self._shown_if_it_fails("still running"):
            while self._show(0.05):
                pass
            while self.child.isalive():
                time.sleep(0.01)
        assert self.child.exitstatus is not None, self.child.signalstatus
        return int(self.child.exitstatus)

    def let(self, name: str) -> None:
        """Put the file into CHATCLI_HOME that the scripted chat waits for."""
        (self._home / name).touch()

    @contextmanager
    def _shown_if_it_fails(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            print(f"{what}\n{self.text}")
            raise

    def close(self) -> None:
        self.child.close(force=True)
