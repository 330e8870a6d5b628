"""Answers a second: `batch` against asking one after the other in the same process, on the built-in model.

python benchmarks/batch.py [--questions 96] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import time

from chatcli import guide
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.generation import Finished, GenerationSettings
from chatcli.models.checkpoint import open_checkpoint

ASKED = (
    "How do I save a conversation?",
    "怎么撤销上一个问题？",
    "What does /retry do?",
    "How can I use a model from a folder?",
    "Which exit code means that there is no such model?",
)
Questions = list[tuple[Conversation, GenerationSettings]]


def one_by_one(engine: LocalEngine, questions: Questions) -> int:
    """Ask each after the other; returns how many tokens came."""
    made = 0
    for conversation, settings in questions:
        made += sum(e.completion_tokens for e in engine.stream(conversation, settings) if isinstance(e, Finished))
    return made


def together(engine: LocalEngine, questions: Questions) -> int:
    """Ask all at once."""
    return sum(answer.finished.completion_tokens for answer in engine.answer_together(questions))


def main() -> None:
    """Both ways in turn, the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    engine = open_local(open_checkpoint(guide.folder(), guide.NAME), shipped(), lambda progress: None)
    questions = [
        (Conversation((Message("user", ASKED[n % len(ASKED)]),)), GenerationSettings()) for n in range(said.questions)
    ]
    rates: dict[str, list[float]] = {"one by one": [], "together": []}
    tokens = set()
    for _ in range(said.rounds):
        for name, way in (("one by one", one_by_one), ("together", together)):
            begun = time.perf_counter()
            tokens.add(way(engine, questions))
            rates[name].append(said.questions / (time.perf_counter() - begun))
    assert len(tokens) == 1, "both ways must give the same answers"
    print("| way | answers a second, median |\n|---|---|")
    for name, measured in rates.items():
        print(f"| {name} | {statistics.median(measured):.1f} |")
    ratio = statistics.median(rates["together"]) / statistics.median(rates["one by one"])
    print(f"\ntogether / one by one: {ratio:.1f}")


if __name__ == "__main__":
    main()
