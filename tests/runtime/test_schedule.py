"""Whose prompt is read on next, and how much of it: by lengths alone, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatcli.generation import GenerationSettings
from chatcli.runtime.requests import Request, Row
from chatcli.runtime.schedule import ALIKE, MARGIN, ROWS, Schedule, part

MOST_TURNS = 2


def schedule(
    shared: Callable[[Sequence[int]], int] = lambda ids: 0, fit: Callable[[int, int], bool] = lambda rows, longest: True
) -> Schedule:
    return Schedule(shared, fit, MOST_TURNS)


def add(to: Schedule, *ids: Sequence[int], takes_turns: bool = False) -> list[Row]:
    for each in ids:
        to.add(Request(each, GenerationSettings(), (), 9, lambda told: None), takes_turns=takes_turns)
    return to.waiting[-len(ids) :]


def texts(*lengths: int) -> list[Sequence[int]]:
    return [range(1000 * at, 1000 * at + length) for at, length in enumerate(lengths)]


def test_a_short_prompt_does_not_wait_for_a_long_one_and_that_not_for_ever() -> None:
    asked = schedule()
    (long,) = add(asked, range(900))
    assert asked.next_to_read(beside=()) is long
    read = 0
    while True:
        (short,) = add(asked, range(5000, 5090))
        chosen = asked.next_to_read(beside=())
        if chosen is long:
            break
        assert chosen is short
        asked.let_go(short)
        asked.has_read(short, 90)
        read += 90
    assert 900 - 90 <= read <= 900
    assert short.passed == 0


def test_of_equals_the_first_that_came_is_first() -> None:
    asked = schedule()
    rows = add(asked, *texts(50, 50, 50))
    beside: list[Row] = []
    while row := asked.next_to_read(beside):
        beside.append(row)
    assert beside == asked.reading == rows
    assert not asked.waiting


def test_what_is_kept_is_not_to_be_read() -> None:
    asked = schedule(shared=lambda ids: 80 if len(ids) == 100 else 0)
    _, known = add(asked, *texts(50, 100))
    assert known.left == 20
    assert asked.next_to_read(beside=()) is known


def test_nobody_begins_without_room_and_who_has_begun_goes_on() -> None:
    asked = schedule(fit=lambda rows, longest: rows * longest <= 2 * (100 + MARGIN))
    first, second = add(asked, *texts(100, 90))
    assert asked.next_to_read(beside=()) is second
    assert asked.next_to_read(beside=[second]) is first
    (third,) = add(asked, range(7000, 7010))
    assert asked.next_to_read(beside=()) is second
    assert third in asked.waiting
    asked.let_go(second)
    assert asked.next_to_read(beside=()) is third


def test_one_alone_begins_however_little_room_there_is() -> None:
    asked = schedule(fit=lambda rows, longest: False)
    (row,) = add(asked, range(100))
    assert asked.next_to_read(beside=()) is row


def test_there_is_an_end_to_how_many_are_under_way() -> None:
    asked = schedule()
    add(asked, *texts(*[10] * (ROWS + 1)))
    beside: list[Row] = []
    while row := asked.next_to_read(beside):
        beside.append(row)
    assert len(beside) == asked.running == ROWS
    assert len(asked.waiting) == 1


def test_so_many_take_turns_and_no_more() -> None:
    asked = schedule()
    rows = add(asked, *texts(*[10] * (MOST_TURNS + 1)), takes_turns=True)
    for row in rows[:MOST_TURNS]:
        assert asked.next_to_read(beside=asked.reading) is row
    assert asked.next_to_read(beside=asked.reading) is None
    assert asked.waiting == rows[MOST_TURNS:]


def test_who_begins_as_another_does_gains_by_waiting() -> None:
    system = range(30 + ALIKE)
    for kept, gains in ((30, True), (31, False)):
        asked = schedule(shared=lambda ids, kept=kept: kept)  # type: ignore[misc]
        first, second = add(asked, [*system, 1000], [*system, 1001])
        assert asked.gains_by_waiting(second, [first]) is gains
        assert not asked.gains_by_waiting(second, [])


def test_who_made_room_is_first_again_and_begins_anew() -> None:
    asked = schedule(shared=lambda ids: 4)
    first, second = add(asked, *texts(10, 20))
    assert asked.next_to_read(beside=()) is first
    asked.reading.remove(first)
    first.seen += [7, 7]
    first.left, first.alone = 0, True
    asked.wait_again([first])
    assert asked.waiting == [first, second]
    assert (first.left, first.alone, first.steps, first.cache) == (8, False, None, None)


def test_all_are_forgotten() -> None:
    asked = schedule()
    rows = add(asked, *texts(10, 20, 30))
    asked.next_to_read(beside=())
    assert sorted(asked.forget_all(), key=lambda row: row.number) == rows
    assert (asked.running, asked.waiting) == (0, [])


def test_a_part_takes_the_end_with_it_where_that_is_near() -> None:
    (row,) = add(schedule(), range(100))
    assert part(row, 40, end=0) == list(range(40))
    row.left = 60
    assert part(row, 40, end=20) == list(range(40, 80))
    assert part(row, 40, end=21) == list(range(40, 100))
    assert part(row, 60, end=0) == list(range(40, 100))


def test_what_must_be_read_at_once_is() -> None:
    (row,) = add(schedule(), range(100))
    row.undivided = 70
    assert part(row, 40, end=0) == list(range(70))
