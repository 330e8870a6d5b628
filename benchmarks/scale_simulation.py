"""What routing does for 8 to 4096 replicas, in a simulation: cache hits, waiting, the router's own cost, cold starts.

python benchmarks/scale_simulation.py [--replicas 8,64,512,4096] [--seconds 180] [--seed 0] [--costs]

Everything about replicas and traffic is a parameter below, with its source; only the router is real: the prefix-aware
one is `chatcli.server.replicas.beginnings` itself, and its speed and size are measured. Lengths are in tokens.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from chatcli.server.replicas.beginnings import Beginning, Beginnings

# Traffic. The first minute of AzureLLMInferenceTrace_conv (Azure/AzurePublicDataset, CC-BY, 191 requests of
# 2023-11-16): requests in each five seconds, and the 0th, 5th, ... 100th percentile of tokens in and out.
ARRIVALS = (4, 9, 11, 7, 11, 17, 15, 15, 24, 34, 27, 17)
PROMPTS = (
    2,
    91,
    181,
    197,
    203,
    209,
    374,
    389,
    400,
    833,
    888,
    962,
    1000,
    1057,
    1087,
    1114,
    1133,
    1232,
    1316,
    4073,
    4107,
)
ANSWERS = (12, 27, 55, 67, 85, 91, 106, 138, 157, 174, 183, 216, 217, 379, 394, 396, 403, 416, 422, 426, 594)
# Talks. That trace does not say which requests are of one talk, so these are assumed.
TURNS = 3.0
"""Questions in a talk, on average; their number is geometric."""
GAP_SECONDS = 20.0
"""Median from an answer to the next question; log-normal with a sigma of 1."""
NEXT_QUESTION = 70.0
"""Tokens of a question but the first, on average; exponential."""
SYSTEMS = tuple(200 + 130 * rank for rank in range(10))
"""Tokens of the system messages that all talks begin with one of; the n-th is 1/n as frequent as the first."""

# A replica: roughly a model of 8 to 13 billion parameters on one GPU of 80 GB.
PREFILL = 4000.0
"""Tokens read a second."""
STEP_SECONDS, STEP_SECONDS_EACH = 0.020, 0.0005
"""A decode step, and what each answer in the batch adds."""
PLACES = 16
CACHE = 150_000
"""Tokens of KV cache; what was used longest ago goes first."""
LOAD = 0.6
"""Talks are so many that without any cache the replicas read and write this share of the time, on average."""
REQUEST_COST = 150.0
"""`Beginnings`' cost of a request that is under way, in tokens: 600 characters."""


@dataclass
class Talk:
    """What was said, as beginnings, and how many questions are to come."""

    said: list[Beginning]
    turns: int


@dataclass(order=True, slots=True)
class Request:
    """A question on its way; `prompt` are its beginnings with what was said before."""

    arrived: float
    number: int
    talk: Talk = field(compare=False)
    prompt: list[Beginning] = field(compare=False)
    answer: int = field(compare=False)
    cached: int = field(default=0, compare=False)
    first: float = field(default=0.0, compare=False)


class Replica:
    """One server: a queue, places, a reader that reads one prompt at a time, and a cache."""

    def __init__(self) -> None:
        self.ongoing = 0
        self.running = 0
        self.queue: list[Request] = []
        self.reads_until = 0.0
        self.cache: OrderedDict[int, int] = OrderedDict()
        self.cached = 0

    def start(self, request: Request, now: float) -> float:
        """Read and answer; returns when it is done."""
        request.cached = max((b.length for b in request.prompt if b.key in self.cache), default=0)
        length = request.prompt[-1].length
        begin = max(now, self.reads_until)
        self.reads_until = begin + (length - request.cached) / PREFILL
        self.running += 1
        step = STEP_SECONDS + STEP_SECONDS_EACH * self.running
        request.first = self.reads_until + step
        self.keep(request.prompt)
        return request.first + request.answer * step

    def keep(self, prompt: Sequence[Beginning]) -> None:
        """Have a prompt in the cache; the longest beginnings leave first."""
        before = 0
        sizes = []
        for each in prompt:
            sizes.append(each.length - before)
            before = each.length
        for each, size in zip(reversed(prompt), reversed(sizes), strict=True):
            if each.key not in self.cache:
                self.cached += size
            self.cache[each.key] = size
            self.cache.move_to_end(each.key)
        while self.cached > CACHE:
            self.cached -= self.cache.popitem(last=False)[1]


class RoundRobin:
    """One after the other."""

    def __init__(self, replicas: list[Replica], random: Random) -> None:
        self._next = count()
        self._replicas = replicas

    def choose(self, prompt: Sequence[Beginning]) -> int:
        """The next."""
        return next(self._next) % len(self._replicas)


class LeastOfTwo:
    """The less busy of two that are drawn: what Ray Serve does by itself."""

    def __init__(self, replicas: list[Replica], random: Random) -> None:
        self._replicas = replicas
        self._random = random

    def choose(self, prompt: Sequence[Beginning]) -> int:
        """One of two."""
        drawn = [self._random.randrange(len(self._replicas)) for _ in range(2)]
        return min(drawn, key=lambda each: self._replicas[each].ongoing)


class LeastLoaded(LeastOfTwo):
    """The least busy of all, as somebody would who knew them all at every moment."""

    def choose(self, prompt: Sequence[Beginning]) -> int:
        """One of those that have least to do."""
        least = min(replica.ongoing for replica in self._replicas)
        return self._random.choice([n for n, replica in enumerate(self._replicas) if replica.ongoing == least])


class PrefixAware(LeastOfTwo):
    """Ours."""

    def __init__(self, replicas: list[Replica], random: Random, cost: float = REQUEST_COST) -> None:
        super().__init__(replicas, random)
        self.beginnings: Beginnings[int] = Beginnings(request_cost=cost)
        self.seconds = 0.0
        self.decisions = 0

    def choose(self, prompt: Sequence[Beginning]) -> int:
        """By what was read and what is to do."""
        begun = time.perf_counter()
        drawn = [self._random.randrange(len(self._replicas)) for _ in range(2)]
        chosen = self.beginnings.choose(prompt, drawn, lambda each: self._replicas[each].ongoing)
        self.beginnings.note(prompt, chosen)
        self.seconds += time.perf_counter() - begun
        self.decisions += 1
        return chosen


class Servers(LeastOfTwo):
    """Several servers, each with a router that knows what it has sent itself.

    A load balancer before them sends a talk always to the same, or each request to any.
    """

    def __init__(self, replicas: list[Replica], random: Random, servers: int, *, by_talk: bool) -> None:
        super().__init__(replicas, random)
        self._servers = [PrefixAware(replicas, random) for _ in range(servers)]
        self._by_talk = by_talk

    def choose(self, prompt: Sequence[Beginning]) -> int:
        """As the server that is asked does; the second beginning is the talk's first question."""
        asked = prompt[1].key if self._by_talk else self._random.randrange(len(self._servers))
        return self._servers[asked % len(self._servers)].choose(prompt)


def drawn_from(percentiles: Sequence[int], random: Random) -> int:
    """A number that is distributed as these percentiles say."""
    place = random.random() * (len(percentiles) - 1)
    below, share = int(place), place % 1
    return max(int(percentiles[below] + share * (percentiles[below + 1] - percentiles[below])), 1)


def work_of_a_talk() -> float:
    """Seconds of a replica that a talk takes on average, without a cache: reading, and its share of a batch."""
    random = Random(1)
    mean = lambda numbers: sum(drawn_from(numbers, random) for _ in range(20_000)) / 20_000  # noqa: E731
    answer = mean(ANSWERS)
    system = sum(size / (n + 1) for n, size in enumerate(SYSTEMS)) / sum(1 / (n + 1) for n in range(len(SYSTEMS)))
    first = system + mean(PROMPTS)
    # The n-th question reads the n - 1 before it and their answers again; of a geometric number of turns
    # with mean m, the mean of n(n - 1)/2 over a talk is m(m - 1).
    read = TURNS * first + TURNS * (TURNS - 1) * (answer + NEXT_QUESTION)
    step = STEP_SECONDS + STEP_SECONDS_EACH * PLACES
    return max(read / PREFILL, TURNS * answer * step / PLACES)


class Traffic:
    """Talks that begin as the recorded minute says, again and again, `per_second` of them on average."""

    def __init__(self, per_second: float, seconds: float, random: Random) -> None:
        self.random = random
        self._mean = sum(ARRIVALS) / len(ARRIVALS)
        self._per_second = per_second
        self._seconds = seconds
        self._keys = count(len(SYSTEMS))
        self._frequencies = [1 / (n + 1) for n in range(len(SYSTEMS))]

    def begins(self) -> Iterator[float]:
        """When talks begin."""
        now = 0.0
        while now < self._seconds:
            rate = self._per_second * ARRIVALS[int(now / 5) % len(ARRIVALS)] / self._mean
            now += self.random.expovariate(rate)
            yield now

    def talk(self) -> Talk:
        """A new talk, of which only the system message is said."""
        system = self.random.choices(range(len(SYSTEMS)), self._frequencies)[0]
        turns = 1
        while self.random.random() > 1 / TURNS:
            turns += 1
        return Talk([Beginning(system, SYSTEMS[system])], turns)

    def ask(self, talk: Talk, now: float, number: int) -> Request:
        """The next question of a talk."""
        first = len(talk.said) == 1
        question = drawn_from(PROMPTS, self.random) if first else int(self.random.expovariate(1 / NEXT_QUESTION)) + 1
        prompt = [*talk.said, Beginning(next(self._keys), talk.said[-1].length + question)]
        return Request(now, number, talk, prompt, drawn_from(ANSWERS, self.random))

    def answered(self, request: Request) -> float | None:
        """Seconds until the talk's next question; None where there is none."""
        end = request.prompt[-1].length + request.answer
        request.talk.said = [*request.prompt, Beginning(next(self._keys), end)]
        request.talk.turns -= 1
        return GAP_SECONDS * self.random.lognormvariate(0, 1) if request.talk.turns else None


@dataclass
class Outcome:
    """What came of a run, once it was warm."""

    first: list[float]
    read: int
    cached: int

    @property
    def hits(self) -> float:
        """Share of prompt tokens that were not read again."""
        return self.cached / max(self.read, 1)

    def percentile(self, share: float) -> float:
        """Seconds to the first token that this share does not exceed."""
        ordered = sorted(self.first)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


Make = Callable[[list[Replica], Random], "RoundRobin | LeastOfTwo"]


def run(
    make: Make,
    replicas: int,
    seconds: float,
    seed: int,
    *,
    load: float = LOAD,
    grow: Callable[[float, list[Replica]], int] | None = None,
    warm: float | None = None,
) -> tuple[Outcome, RoundRobin | LeastOfTwo]:
    """Simulate; `grow` says every second how many replicas to add, of a list that the router sees."""
    random = Random(seed)
    there = [Replica() for _ in range(replicas)]
    router = make(there, Random(seed + 1))
    traffic = Traffic(load * replicas / work_of_a_talk(), seconds, random)
    outcome = Outcome([], 0, 0)
    warm = seconds / 3 if warm is None else warm
    order = count()
    events: list[tuple[float, int, str, Talk | tuple[Replica, Request] | None]] = []
    for when in traffic.begins():
        heapq.heappush(events, (when, next(order), "ask", traffic.talk()))
    if grow:
        events += [(float(second), next(order), "grow", None) for second in range(int(seconds))]
        heapq.heapify(events)
    while events:
        now, _, kind, what = heapq.heappop(events)
        if now > seconds:
            break
        if kind == "grow" and grow:
            there.extend(Replica() for _ in range(grow(now, there)))
        elif isinstance(what, Talk):
            request = traffic.ask(what, now, next(order))
            replica = there[router.choose(request.prompt)]
            replica.ongoing += 1
            replica.queue.append(request)
            begin(replica, now, events, order, outcome, warm)
        elif isinstance(what, tuple):
            replica, request = what
            replica.ongoing -= 1
            replica.running -= 1
            if (gap := traffic.answered(request)) is not None:
                heapq.heappush(events, (now + gap, next(order), "ask", request.talk))
            replica.keep(request.talk.said)
            begin(replica, now, events, order, outcome, warm)
    return outcome, router


def begin(
    replica: Replica,
    now: float,
    events: list[tuple[float, int, str, object]],
    order: count[int],
    outcome: Outcome,
    warm: float,
) -> None:
    """Give a place to those that wait, while there is one."""
    while replica.queue and replica.running < PLACES:
        request = replica.queue.pop(0)
        done = replica.start(request, now)
        if request.arrived >= warm:
            outcome.first.append(request.first - request.arrived)
            outcome.read += request.prompt[-1].length
            outcome.cached += request.cached
        heapq.heappush(events, (done, next(order), "done", (replica, request)))


def size_of(beginnings: Beginnings[int]) -> float:
    """Bytes that a beginning takes in the router: key, holders, and their places in the table."""
    table = beginnings._holders
    some = list(table.items())[:10_000]
    return (sys.getsizeof(table) / max(len(table), 1)) + sum(
        sys.getsizeof(key) + sys.getsizeof(holders) for key, holders in some
    ) / max(len(some), 1)


def compare(sizes: Sequence[int], seconds: float, seed: int) -> None:
    """One row a router and size."""
    print("| replicas | router | cache hits | first token p50 | p99 | decisions a second | beginnings | router's MB |")
    print("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        routers: list[tuple[str, Make]] = [("round robin", RoundRobin), ("least of two", LeastOfTwo)]
        routers += [("least of all", LeastLoaded)] if size <= 512 else []
        for name, make in [*routers, ("prefix-aware", PrefixAware)]:
            outcome, router = run(make, size, seconds, seed)
            cells = ["", "", ""]
            if isinstance(router, PrefixAware):
                known = len(router.beginnings)
                rate = router.decisions / router.seconds
                cells = [f"{rate:,.0f}", f"{known:,}", f"{known * size_of(router.beginnings) / 1e6:.1f}"]
            times = [f"{outcome.percentile(share):.2f} s" for share in (0.5, 0.99)]
            print(f"| {size} | {name} | {outcome.hits:.0%} | {' | '.join([*times, *cells])} |", flush=True)


def several_servers(seconds: float, seed: int) -> None:
    """What is lost where no server sees all."""
    print("\n| servers before 512 replicas | cache hits | first token p50 | p99 |\n|---|---|---|---|")
    for servers, by_talk in ((1, True), (8, True), (8, False), (32, True), (32, False)):

        def make(there: list[Replica], random: Random, servers: int = servers, by_talk: bool = by_talk) -> Servers:
            return Servers(there, random, servers, by_talk=by_talk)

        outcome, _ = run(make, 512, seconds, seed)
        times = " | ".join(f"{outcome.percentile(share):.2f} s" for share in (0.5, 0.99))
        name = f"{servers}, {'a talk always to one' if by_talk else 'each request to any'}" if servers > 1 else "1"
        print(f"| {name} | {outcome.hits:.0%} | {times} |", flush=True)


def costs(seconds: float, seed: int) -> None:
    """What the one constant of the router does."""
    print("\n| a request under way counts as | cache hits | first token p50 | p99 |\n|---|---|---|---|")
    for cost in (0.0, 50.0, 150.0, 500.0, 1500.0, 5000.0):
        outcome, _ = run(lambda there, random, cost=cost: PrefixAware(there, random, cost), 64, seconds, seed)
        times = " | ".join(f"{outcome.percentile(share):.2f} s" for share in (0.5, 0.99))
        print(f"| {cost:.0f} tokens | {outcome.hits:.0%} | {times} |", flush=True)


def cold_starts(seed: int) -> None:
    """A cluster of 64 gets four times its traffic, and grows as Ray Serve's autoscaler has it."""
    print("\n| a replica starts in | first token p50 | p90 | p99 | over 5 s |\n|---|---|---|---|---|")
    for cold in (0.0, 20.0, 60.0, 180.0):
        coming: list[float] = []

        def grow(now: float, there: list[Replica], cold: float = cold, coming: list[float] = coming) -> int:
            """Every ten seconds as many as half-full replicas need, which come later."""
            if now % 10 == 0:
                wanted = -(-sum(each.ongoing for each in there) // (PLACES // 2))
                coming += [now + cold] * min(max(wanted - len(there) - len(coming), 0), 1024)
            arrived = sum(when <= now for when in coming)
            coming[:] = [when for when in coming if when > now]
            return arrived

        outcome, _ = run(PrefixAware, 64, 600.0, seed, load=4 * LOAD, grow=grow, warm=0.0)
        times = " | ".join(f"{outcome.percentile(share):.2f} s" for share in (0.5, 0.9, 0.99))
        late = sum(each > 5 for each in outcome.first) / len(outcome.first)
        print(f"| {cold:.0f} s | {times} | {late:.1%} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicas", default="8,64,512,4096")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--costs", action="store_true", help="also try other costs of a request that is under way")
    said = parser.parse_args()
    compare([int(each) for each in said.replicas.split(",")], said.seconds, said.seed)
    several_servers(said.seconds, said.seed)
    if said.costs:
        costs(said.seconds, said.seed)
    cold_starts(said.seed)


if __name__ == "__main__":
    main()
