"""Draw docs/speed.svg from the tables of benchmarks/README.md: how chatcli compares, one bar a question.

`--check` writes nothing and only says whether the picture is fresh. It knows where in that page each number stands.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE, PICTURE = ROOT / "benchmarks" / "README.md", ROOT / "docs" / "speed.svg"
QUESTIONS = (
    ("Turn 20 of a talk, against reading it anew", r"\| 20 \| 3800 \| ([\d.]+) \| ([\d.]+) \|"),
    ("64 questions together, against one by one", r"Together is ([\d.]+) times"),
    ("Reading a prompt on a CPU, against generate()", r"Reading the prompt is ([\d.]+) times"),
    ("Repeating a text with changes, guessing or not", r"\| guessing, prompt lookup \| [\d.]+ \| ([\d.]+) \|"),
    ("Writing on a CPU in bfloat16, against generate()", r"\| chatcli, bfloat16 \| [\d.]+ \| ([\d.]+) \|"),
    ("A first answer, against a plain script", r"\| `chatcli ask`, no server \| [\d.]+ \| ([\d.]+) times"),
    ("Loading from a disk, against safetensors alone", r"\| one file \| cold \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|"),
    ("Writing on a CPU in bfloat16, against llama.cpp", r"\| chatcli, bfloat16 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|"),
)
"""What a bar says, and the pattern of its ratio: one group is the ratio of rates, two are our time and the other."""
TIMES = {"A first answer, against a plain script"}
"""Ratios that the page gives of times, where less is better: the bar shows the inverse."""
LEFT, WIDTH, ROW = 330, 300, 26
LEAST, MOST = 0.5, 16.0


def ratios(page: str) -> list[tuple[str, float]]:
    """Each question with how many times as fast chatcli is."""
    found = []
    for question, pattern in QUESTIONS:
        match = re.search(pattern, page)
        if match is None:
            sys.exit(f"{SOURCE.name} has no number for: {question}")
        numbers = [float(number) for number in match.groups()]
        ratio = numbers[1] / numbers[0] if len(numbers) == 2 else numbers[0]
        found.append((question, 1 / ratio if question in TIMES else ratio))
    return found


def place(ratio: float) -> float:
    """Where a ratio lies on the logarithmic axis."""
    share = math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return round(LEFT + WIDTH * share, 1)


def drawn(page: str) -> str:
    """The picture, for light and dark pages."""
    found, one = ratios(page), place(1)
    height = ROW * len(found) + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>How many times as fast chatcli is as the other way</title>",
        "<style>text{fill:#24292f}.more{fill:#2f81f7}.less{fill:#8c959f}line{stroke:#8c959f}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>",
    ]
    for row, (question, ratio) in enumerate(found):
        top, end = ROW * row + 6, place(ratio)
        kind = "more" if ratio >= 1 else "less"
        lines += [
            f'<text x="{LEFT - 12}" y="{top + 14}" text-anchor="end">{question}</text>',
            f'<rect class="{kind}" x="{min(one, end)}" y="{top + 2}" width="{abs(end - one):.1f}" height="16" rx="2"/>',
            f'<text x="{max(one, end) + 6}" y="{top + 14}">{ratio:.{1 if ratio >= 10 else 2}f} times</text>',
        ]
    bottom = ROW * len(found) + 8
    lines += [
        f'<line x1="{one}" y1="4" x2="{one}" y2="{bottom}"/>',
        f'<text x="{one}" y="{bottom + 16}" text-anchor="middle">as fast</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the picture, or compare it."""
    fresh = drawn(SOURCE.read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        PICTURE.write_text(fresh, encoding="utf-8")
    elif fresh != PICTURE.read_text(encoding="utf-8"):
        sys.exit("docs/speed.svg is stale: run scripts/draw_chart.py")


if __name__ == "__main__":
    main()
