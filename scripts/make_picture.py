"""Draw docs/chat.svg, the README's picture, from a real terminal: a short chat with the built-in guide."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import pexpect
import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

TARGET = Path(__file__).parent.parent / "docs" / "chat.svg"
COLUMNS, ROWS = 90, 24
SAID = ("How do I pipe a file into it?", "怎么撤销上一个问题？", "/stats")
NAMED = {"brown": "yellow", "brightblack": "bright_black"}


def recorded() -> pyte.Screen:
    """The screen after the chat: each line is sent when the toolbar says that the model waits for it."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    with tempfile.TemporaryDirectory() as home:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "chatcli", "run"],
            env={**os.environ, "CHATCLI_HOME": home, "TERM": "xterm-256color"},
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            codec_errors="replace",
        )

        def settled(seconds: float) -> None:
            quiet = time.monotonic() + seconds
            while time.monotonic() < quiet:
                try:
                    piece = child.read_nonblocking(4096, timeout=0.1)
                except pexpect.TIMEOUT:
                    continue
                stream.feed(piece)
                if "\x1b[6n" in piece:
                    child.send(f"\x1b[{screen.cursor.y + 1};{screen.cursor.x + 1}R")

        settled(1)
        while "cpu" not in screen.display[-1] and "cuda" not in screen.display[-1]:
            settled(0.5)
        for line in SAID:
            child.send(line + "\r")
            settled(4)
        child.close(force=True)
    return screen


def drawn(screen: pyte.Screen) -> str:
    """The screen as SVG, in the reader's own monospace font: no request to any host."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    for row in range(ROWS):
        line = Text(no_wrap=True)
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            color = None if cell.fg == "default" else NAMED.get(cell.fg, cell.fg)
            if color and re.fullmatch("[0-9a-f]{6}", color):
                color = f"#{color}"
            line.append(cell.data, Style(color=color, bold=cell.bold))
        console.print(line)
    local = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="chatcli run", code_format=local.replace("Fira Code", "ui-monospace, Menlo"))


if __name__ == "__main__":
    TARGET.write_text(drawn(recorded()), encoding="utf-8")
