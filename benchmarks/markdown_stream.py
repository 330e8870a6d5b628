"""What streaming a long reply costs the terminal client: ours against drawing the whole reply again with rich.live.

Prints seconds for 20,000 tokens (of about four characters) and their share of decoding at 100 tokens a second. A frame
is painted every 80 ms of decoding, as the client does at that rate; Live is measured on fewer tokens, since its cost
grows with the square of the length. Run: python benchmarks/markdown_stream.py [TOKENS]
"""

from __future__ import annotations

import io
import sys
import time

from chatcli.environment import Environment
from chatcli.render.stream import MarkdownStream
from chatcli.render.tail import Tail

RATE = 100
TOKENS_A_FRAME = 8
LIVE_TOKENS = 1_000
PROSE = "Some **prose** of a few words with `code` in it, a [link](http://x.y/z) and no end in sight. " * 6
SECTION = f"""## A heading

{PROSE}

- an item with **bold** words
  - a nested one, rather longer than the one above it, so that it wraps in eighty columns

| name | value |
|------|------:|
| one  | 1     |
| 中文 | 22    |

```python
def function(argument):
    '''What it does.'''
    return [each for each in range(argument)]  # a comment
```

"""
SHAPES = {
    "mixed": SECTION,
    "one paragraph": PROSE.replace("\n", " "),
    "one fence": "```python\n" + "    x = call(argument, 'text')  # comment\n" * 40,
    "one list": "- an item of a list with a few words in it\n" * 40,
}


def tokens(shape: str, count: int) -> list[str]:
    """A text of a shape, long enough, in pieces of four characters."""
    head, body = ("", shape) if not shape.startswith("```") else shape.split("\n", 1)
    text = (f"{head}\n" if head else "") + body * (count * 4 // len(body) + 1)
    return [text[at : at + 4] for at in range(0, count * 4, 4)]


def ours(pieces: list[str]) -> tuple[float, int]:
    """Seconds and bytes of our renderer."""
    screen = io.StringIO()
    tail = Tail(Environment(io.StringIO(), screen, screen), screen)
    stream = MarkdownStream(color=True)
    begun = time.process_time()
    for number, piece in enumerate(pieces):
        stream.feed(piece)
        if number % TOKENS_A_FRAME == 0:
            tail.paint(*stream.rows(80))
    tail.paint(stream.end(80), ())
    return time.process_time() - begun, len(screen.getvalue().encode())


def live(pieces: list[str]) -> tuple[float, int]:
    """Seconds and bytes of rich.live with the whole text at every frame."""
    from rich.console import Console
    from rich.live import Live
    from rich.markdown import Markdown

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    text = ""
    begun = time.process_time()
    with Live(console=console, auto_refresh=False) as shown:
        for number, piece in enumerate(pieces):
            text += piece
            if number % TOKENS_A_FRAME == 0:
                shown.update(Markdown(text), refresh=True)
    return time.process_time() - begun, len(screen.getvalue().encode())


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print(f"{'text':<16}{'renderer':<10}{'tokens':>8}{'seconds':>9}{'share':>8}{'MB':>7}")
    rows = [(name, "ours", ours, count) for name in SHAPES]
    rows += [("mixed", "ours", ours, LIVE_TOKENS), ("mixed", "rich.live", live, LIVE_TOKENS)]
    for name, renderer, measure, length in rows:
        seconds, written = measure(tokens(SHAPES[name], length))
        share = seconds / (length / RATE)
        print(f"{name:<16}{renderer:<10}{length:>8}{seconds:>9.2f}{share:>8.1%}{written / 1e6:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
