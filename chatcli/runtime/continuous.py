"""A batch that runs on while requests join and leave it: a step of all rows, a chunk of one prompt, over and over.

Each prompt is read alone, in chunks, going on from what was read before; then its keys and values join the batch. So
every request comes to the tokens that it would come to alone. While there is but one, it is answered as if there were
no batch, which is faster; a model whose rows cannot share one, and a question with pictures, takes turns with it. It
knows ids and samplers and belongs to one thread; who asks is told by a call. Whose turn it is, `schedule` says.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

import torch

from chatcli.errors import ChatcliError, OutOfMemory
from chatcli.generation import Progress
from chatcli.runtime.breaking import GivenUpError, given_up, layers_of
from chatcli.runtime.columns import Columns
from chatcli.runtime.decode import FeedTexts, Pace, feed, require_known
from chatcli.runtime.devices import free_bytes
from chatcli.runtime.explain import explained_answer
from chatcli.runtime.kv import PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.placement import input_device
from chatcli.runtime.requests import Request, Row
from chatcli.runtime.sampling import Sampler, draw_rows
from chatcli.runtime.schedule import ROWS, Schedule, part

TURNS = 4
"""Requests that take turns at the most: each has a cache of its own and computes alone."""
CHUNK_SECONDS, LEAST_CHUNK = 0.1, 64
"""What of the prompts is read between two steps: the others wait so long for their next token, and a newcomer for its
first; with fewer tokens a processor reads its weights too often."""
PAUSE_SECONDS, NEWCOMERS = 1.0, 4
"""How long the rows of the batch may pause while others are read that will share their steps, at least one newcomer to
so many rows: else the first of many that come at once would write nearly alone."""
_SHARE_OF_ROWS = 2
"""The rows may take one part in so many of the memory that the model leaves free."""


class Continuous:
    """Requests over one model. `advance` does the next bit of work; nothing happens outside of it."""

    def __init__(self, model: CausalModel, budget: int | None = None) -> None:
        """The rows of the batch may take `budget` bytes; by default a part of what is free now."""
        self._model = model
        model.pace = self._pace = Pace(CHUNK_SECONDS, LEAST_CHUNK)
        self._budget = free_bytes(input_device(model.module)) // _SHARE_OF_ROWS if budget is None else budget
        self._columns = Columns(model.module)
        self._layers = layers_of(model.module)
        self._read_tokens = self._read_before_step = self._read_last = 0
        self._schedule = Schedule(model.talks.shared, self._fit, TURNS if model.interleaves else 1)

    @property
    def running(self) -> int:
        """Requests that are being read or answered."""
        return self._schedule.running

    @property
    def waiting(self) -> int:
        """Requests that nothing was done for yet, or that had to make room."""
        return len(self._schedule.waiting)

    @property
    def _rows(self) -> list[Row]:
        """Those of the batch, each at the place of its column."""
        return self._schedule.rows

    def add(self, request: Request) -> None:
        """Let a request wait until there is room for it."""
        self._schedule.add(request, takes_turns=bool(request.images) or not self._model.batches)

    def advance(self) -> bool:
        """A step of every row, and a chunk of a prompt or some short ones; False where there is nothing to do."""
        self._drop_cancelled()
        self._regroup()
        self._make_room()
        if self._rows and not self._pauses():
            self._step()
            self._read_before_step = self._read_tokens
        for turn in list(self._schedule.turns):
            self._go_on(turn)
        before = self._read_tokens
        self._read_some()
        self._read_last = self._read_tokens - before
        return bool(self.running or self.waiting)

    def fail(self, error: BaseException) -> None:
        """Tell everybody that it has come to an end, and forget them."""
        self._columns.clear()
        for row in self._schedule.forget_all():
            row.request.tell(error)
            if row.steps:
                row.steps.close()

    def _drop_cancelled(self) -> None:
        for place in range(len(self._rows) - 1, -1, -1):
            if self._rows[place].request.cancelled:
                self._leave(place)
        for group in (self._schedule.turns, self._schedule.reading, self._schedule.waiting):
            for row in [each for each in group if each.request.cancelled]:
                group.remove(row)
                if row.steps:
                    row.steps.close()

    def _pauses(self) -> bool:
        """Whether the rows let newcomers be read first: a step of more rows costs hardly more."""
        room = self._model.pace.rate * PAUSE_SECONDS - (self._read_tokens - self._read_before_step)
        soon = sum(each.left <= room for each in (*self._schedule.reading, *self._schedule.waiting))
        return self._read_last > 0 and NEWCOMERS * soon >= len(self._rows)

    def _regroup(self) -> None:
        """Bring who was alone into the batch when others come, and have the last one of it go on alone."""
        if self._schedule.waiting:
            for row in [each for each in self._schedule.turns if each.alone]:
                if row.steps:
                    row.steps.close()
                self._schedule.let_go(row)
                self._schedule.wait_again([row])
        elif self.running == len(self._rows) == 1 and self._may_be_alone(self._rows[0]):
            row = self._rows[0]
            self._leave(0)
            self._schedule.wait_again([row])

    def _may_be_alone(self, row: Row) -> bool:
        """Whether nobody else is there, and who may come finds the random numbers where the row's tokens are."""
        settings = row.request.settings
        repeats = settings.seed is not None and settings.temperature
        return self._schedule.only_one and (self._model.interleaves or not repeats)

    def _step(self) -> None:
        """Feed every row its last token and draw the next."""
        way = self._model.one_row if len(self._rows) == 1 else self._model.some_rows
        try:
            with explained_answer(self._model.device):
                with way():
                    logits = self._columns.feed([row.seen[-1] for row in self._rows])
                drawn = self._drawn(logits, self._rows)
        except OutOfMemory as error:
            self._run_short(error)
            return
        except ChatcliError as error:
            self._model.forget()
            drawn = [error for _ in self._rows]
        for place in range(len(self._rows) - 1, -1, -1):
            if self._rows[place].take(drawn[place]):
                self._leave(place, keep=not isinstance(drawn[place], ChatcliError))
        if any(isinstance(each, ChatcliError) for each in drawn):
            # What is no number would reach others from the room that it leaves.
            self._put_back_all()

    def _drawn(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int | ChatcliError]:
        """The next token of each of `rows`, whose `logits` are (rows, vocabulary)."""
        for row in rows:
            row.sampler = row.sampler or Sampler(row.request.settings, logits.device, row.request.constraint)
            row.request.logprobs = row.sampler.logprobs
        samplers = [row.sampler for row in rows if row.sampler]
        return list(draw_rows(logits, samplers, [row.seen for row in rows]))

    def _leave(self, place: int, *, keep: bool = True) -> None:
        """Take a row out of the batch; what was computed for it is kept for the next turn of its talk."""
        row = self._rows[place]
        try:
            if keep:
                kept = self._model.talks.beginning(self._columns.ids[place])
                self._columns.extend(kept, place)
                kept.asked = len(row.request.ids)
        except (torch.OutOfMemoryError, MemoryError):
            self._model.forget()
        self._columns.leave(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        if not self._rows:
            self._columns.clear()
            self._schedule.most = ROWS

    def _make_room(self) -> None:
        """Have the rows that came last wait again while all together take more than they may."""
        while len(self._rows) > 1 and not self._fit(len(self._rows), self._columns.longest + 1):
            place = max(range(len(self._rows)), key=lambda place: self._rows[place].number)
            row = self._rows[place]
            self._leave(place)
            self._schedule.wait_again([row])

    def _run_short(self, error: OutOfMemory, *reading: Row) -> None:
        """Go on with fewer rows and nothing kept; one that is alone cannot be helped."""
        self._model.forget()
        if not self._schedule.turns and len(self._rows) + len(reading) + len(self._schedule.reading) == 1:
            for row in (*self._rows, *reading):
                row.request.tell(error)
            self._rows.clear()
            self._columns.clear()
            return
        self._schedule.most = max((self.running + len(reading)) // 2, 1)
        self._put_back_all()
        self._schedule.wait_again(list(reading))

    def _put_back_all(self) -> None:
        rows = self._rows.copy()
        self._rows.clear()
        self._columns.clear()
        self._schedule.wait_again(rows)

    def _read_some(self) -> None:
        """Read on: a chunk of the prompt that is next, and of those behind it as much as fits into one.

        Where each is read in a pass of its own, only whole ones.
        """
        feed_texts, together = self._model.together(), dict[Row, Sequence[int]]()
        chunk = self._pace.chunk - self._pace.chunk % LEAST_CHUNK if feed_texts else self._pace.chunk
        room = chunk
        while row := self._schedule.next_to_read(beside=together):
            if not feed_texts and room < chunk and room < row.left:
                break
            row.steps = row.steps or (self._turn(row) if row.takes_turns else self._read(row))
            if row.takes_turns:
                if room == chunk:
                    self._read_on(row)
                break
            if not row.cache and self._schedule.gains_by_waiting(row, together):
                break
            if not row.cache:
                self._go_on(row)
            if not row.cache:  # it has come to an end before it has begun
                continue
            ids = part(row, room, end=0 if feed_texts else self._pace.chunk // 4)
            room -= len(ids)
            if feed_texts:
                together[row] = ids
            else:
                self._feed({row: ids}, self._one_text)
            if room <= 0:
                break
        if together and feed_texts:
            self._feed(together, feed_texts)

    def _one_text(self, texts: Sequence[tuple[PrefixCache, Sequence[int]]]) -> torch.Tensor:
        ((cache, ids),) = texts
        with self._model.some_rows():
            return feed(self._model.module, cache, ids)

    def _read_on(self, row: Row) -> None:
        """Go on with the prompt of one that takes turns."""
        before = self._read_tokens
        self._go_on(row)
        self._schedule.has_read(row, self._read_tokens - before)

    def _feed(self, parts: Mapping[Row, Sequence[int]], feed_texts: FeedTexts) -> None:
        """Feed parts of prompts, and have their rows go on with the logits."""
        texts = [(row.cache, ids) for row, ids in parts.items() if row.cache]
        begun = time.perf_counter()
        try:
            with (
                explained_answer(self._model.device),
                given_up(self._layers, lambda: any(row.request.cancelled for row in parts)),
            ):
                logits = feed_texts(texts)
        except GivenUpError:  # one that asked has left in the middle of it; the others are read again
            self._drop_cancelled()
            return
        except ChatcliError as error:
            for row in parts:
                self._schedule.let_go(row)
                if row.steps:
                    row.steps.close()
            if isinstance(error, OutOfMemory):
                self._run_short(error, *parts)
            else:
                for row in parts:
                    row.request.tell(error)
            return
        self._pace.took(sum(len(ids) for ids in parts.values()), time.perf_counter() - begun)
        for (row, ids), each in zip(parts.items(), logits, strict=True):
            row.left -= len(ids)
            self._read_tokens += len(ids)
            self._schedule.has_read(row, len(ids))
            self._go_on(row, each)

    def _fit(self, rows: int, longest: int) -> bool:
        return rows * longest * self._columns.bytes_per_token <= self._budget

    def _go_on(self, row: Row, logits: torch.Tensor | None = None) -> None:
        """The next bit of a row that is being read or takes turns."""
        assert row.steps
        over = True
        try:
            with explained_answer(self._model.device):
                row.steps.send(logits)
                over = False
        except StopIteration:
            pass
        except OutOfMemory as error:
            self._schedule.let_go(row)
            if row.made and row.takes_turns:
                row.request.tell(error)
            else:
                self._run_short(error, row)
            return
        except ChatcliError as error:
            row.request.tell(error)
        if over:
            self._schedule.let_go(row)

    def _read(self, row: Row) -> Generator[None, torch.Tensor | None]:
        """Have a prompt read, a chunk between two yields, and have the row join the batch with its first token."""
        module, ids = self._model.module, list(row.seen)
        require_known(module, ids)
        with self._model.talks.lent(ids) as cache:
            row.undivided = module.undivided(ids) if hasattr(module, "undivided") else 0
            row.left = len(ids) - cache.keep_common_prefix(ids, row.undivided)
            row.cache, logits = cache, None
            while row.left:
                if not row.made:
                    row.request.tell(Progress("reading", len(ids) - row.left, len(ids), "tokens"))
                logits = yield
            assert logits is not None
            cache.asked = len(ids)
            if self._may_be_alone(row):
                yield from self._alone(row, cache, logits)
                return
        drawn = self._drawn(logits[None], [row])[0]
        if isinstance(drawn, ChatcliError):
            cache.clear()  # its numbers may be none, and who asks again would go on from them
        if not row.take(drawn):
            self._columns.join(cache)
            self._rows.append(row)

    def _alone(self, row: Row, cache: PrefixCache, logits: torch.Tensor) -> Generator[None, torch.Tensor | None]:
        """Answer a row that was read, a token between two yields, as `CausalModel.generate` does."""
        request = row.request
        row.alone, row.sampler = True, row.sampler or Sampler(request.settings, logits.device, request.constraint)
        request.logprobs = row.sampler.logprobs
        self._schedule.reading.remove(row)
        self._schedule.turns.append(row)
        left = request.limit - row.made
        steps = self._model.decode(cache, list(row.seen), logits, row.sampler, end=request.end, limit=left)
        with closing(steps):
            while True:
                try:
                    token = next(steps)
                except StopIteration as end:
                    if end.value:
                        request.tell(True)
                    return
                if row.take(token):
                    return
                yield

    def _turn(self, row: Row) -> Generator[None, torch.Tensor | None]:
        """Answer a request alone, a token or a chunk of its prompt between two yields."""
        request = row.request
        steps = self._model.generate(
            request.ids,
            request.settings,
            end=request.end,
            limit=request.limit,
            constraint=request.constraint,
            images=request.images,
        )
        told: Progress | int | None = None
        with closing(steps):
            while True:
                try:
                    item = next(steps)
                except StopIteration as end:
                    request.tell(bool(end.value))
                    return
                if item is told and isinstance(item, Progress):  # a chunk is under way: nobody else computes beside it
                    if request.cancelled:
                        return
                    continue
                if isinstance(item, Progress):
                    self._read_tokens += row.left - (item.total - item.done) if told else 0
                    row.left = item.total - item.done
                elif not row.made:
                    request.logprobs = self._model.logprobs  # before others begin to draw
                    self._read_tokens += row.left
                    row.left = 0
                    self._schedule.reading.remove(row)
                    self._schedule.turns.append(row)
                told = item
                row.made += isinstance(item, int)
                request.tell(item)
                yield
