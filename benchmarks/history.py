"""How long list, show and search take in a history of 100,000 conversations.

    python benchmarks/history.py [CONVERSATIONS] [--keep FOLDER]

Makes a history of English and Chinese conversations of one to six turns, and prints the median of each call's own
time and of the whole command, start-up included: as a clock shows it, and of the processor, which other programs on
the machine do not change. A kept FOLDER is used again the next time.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chatcli.history.export import export
from chatcli.history.records import StoredConversation, StoredMessage
from chatcli.history.store import Store

OWN_LIMIT, COMMAND_LIMIT = 100, 250
ROUNDS = 5
_WORDS = (
    "the a of to and in is it for on with as by this that model code file test error python function value list string "
    "number data time user server request response memory cache token prompt answer question write read open close"
)
ENGLISH = _WORDS.split()
CHINESE = "的一是不了人我在有他这中大来上个国和也子时道说出得里后自以会家可下而过天去能对小多然于心学"
RARE, RARE_CHINESE = "xylophone", "鹦鹉"


def conversation(chance: random.Random, number: int, now: float) -> StoredConversation:
    """One of a few turns; one in a thousand has the rare words."""
    at = now - 60.0 * number
    messages: list[StoredMessage] = []
    for row in range(1, 2 * chance.randint(1, 6) + 1):
        role = "user" if row % 2 else "assistant"
        words = _words(chance, number, 12 if row % 2 else 60)
        if number % 1000 == 0 and row == 2:
            words += f" {RARE} {RARE_CHINESE}"
        messages.append(
            StoredMessage(
                row, role, words, finish_reason=None if row % 2 else "stop", model="" if row % 2 else "owner/model",
                created_at=at, parent_id=row - 1 or None,
            )
        )  # fmt: skip
    return StoredConversation("", "", "owner/model", "abc", "", at, at, tuple(messages))


def _words(chance: random.Random, number: int, count: int) -> str:
    if number % 2:
        return "".join(chance.choices(CHINESE, k=count * 2)) + f"，第{number}。"
    # Words of Zipf's law, among them many that occur once, as in real text.
    names = [f"name{int(chance.paretovariate(0.6)) % 500_000}" for _ in range(count // 6)]
    return " ".join([*chance.choices(ENGLISH, k=count - len(names)), *names])


def fill(file: Path, count: int) -> None:
    """Make the history, the newest conversation first."""
    chance, store = random.Random(6), Store.open(file)
    begun = time.perf_counter()
    for start in range(0, count, 500):
        store.add_imported([conversation(chance, number, 1.7e9) for number in range(start, min(start + 500, count))])
    store.close()
    print(f"{count} conversations made in {time.perf_counter() - begun:.0f} s, {file.stat().st_size / 1e6:.0f} MB\n")


def processor() -> float:
    """Seconds that this process and those it waited for have used of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


def median_ms(call: Callable[[], object]) -> tuple[float, float]:
    """The medians of `ROUNDS` calls in milliseconds: by the clock, of the processor."""
    times = []
    for _ in range(ROUNDS):
        begun, used = time.perf_counter(), processor()
        call()
        times.append(((time.perf_counter() - begun) * 1000, (processor() - used) * 1000))
    return statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times)


def main() -> None:
    """Print the table."""
    keep = Path(sys.argv[sys.argv.index("--keep") + 1]) if "--keep" in sys.argv else None
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = keep or Path(folder)
        file = home / "data" / "history.db"
        if not file.exists():
            fill(file, count)
        measure(home, file)


def measure(home: Path, file: Path) -> None:
    """Each command, by its own time and as a whole."""

    # Each call opens the file anew, as a command does.
    def own(call: Callable[[Store], object]) -> tuple[float, float]:
        def opened() -> None:
            store = Store.open(file)
            call(store)
            store.close()

        return median_ms(opened)

    queries = [
        RARE, RARE_CHINESE, "鹦", "的", "人我", "我在有他", "the", "th", "model answer", "name12", "xyloph",
        "the 的", "error xylophone", "在有 鹦鹉", "nowhere", "没有没有", "🚀", "C++ -*\"",
    ]  # fmt: skip
    old = f"@{len(Store.open(file).ids()) * 9 // 10}"
    middle = Store.open(file).find("@500")
    rows: list[tuple[str, tuple[float, float], list[str]]] = [
        ("list", own(lambda store: store.recent(20)), []),
        ("list --limit 1000", own(lambda store: store.recent(1000)), ["-n", "1000"]),
        ("show @1", own(lambda store: export(store.load(store.find("@1")), "json")), ["show", "@1"]),
        (f"show {old}", own(lambda store: store.load(store.find(old))), ["show", old]),
        ("show ID", own(lambda store: store.load(store.find(middle[:8]))), ["show", middle[:8]]),
        *(
            (f"search {query}", own(lambda store, q=query: store.search(q, 20)), ["search", "--", query])
            for query in queries
        ),  # type: ignore[misc]
    ]
    print(f"{'':<28}{'own time, ms':>28}{'whole command, ms':>28}")
    print(f"{'':<28}" + f"{'clock':>10}{'processor':>10}{'of limit':>8}" * 2)
    for name, spent, arguments in rows:
        line = f"{name:<28}"
        whole = median_ms(lambda arguments=arguments: command(home, arguments))  # type: ignore[misc]
        for (wall, cpu), limit in ((spent, OWN_LIMIT), (whole, COMMAND_LIMIT)):
            line += f"{wall:>10.1f}{cpu:>10.1f}{cpu / limit:>8.2f}"
        print(line, flush=True)


def command(home: Path, arguments: list[str]) -> None:
    """The whole command in a process of its own."""
    subprocess.run(
        [Path(sys.executable).with_name("chatcli"), "history", *arguments],
        env={**os.environ, "CHATCLI_HOME": str(home)}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
