"""A loaded model that sees: pictures go in where its prompt has places for them, and stay cached like its words.

It knows ids, positions and pixels; it knows no template. What each family reads for a picture is in `pictures`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from chatcli.conversation import Attachment
from chatcli.errors import EngineError
from chatcli.generation import GenerationSettings, Progress
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.tokenizer import Tokenizer
from chatcli.runtime.decode import decode, require_known
from chatcli.runtime.devices import memory_bandwidth
from chatcli.runtime.kv import CACHE, PrefixCache
from chatcli.runtime.model import CausalModel
from chatcli.runtime.pictures import ShownPictures
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import Sampler

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint


@dataclass(frozen=True, slots=True)
class _Placed:
    """A picture whose first and last patch are the ids `start` and `end` - 1 of a prompt."""

    image: Attachment
    start: int
    end: int


class VisionModel(CausalModel):
    """Generates ids as a `CausalModel` does; to its cache, a patch of one picture is not a patch of another."""

    def __init__(self, model: Any, checkpoint: Checkpoint) -> None:
        super().__init__(model)
        self._checkpoint = checkpoint
        tower = sum(each.numel() * each.element_size() for name, each in model.named_parameters() if "vis" in name)
        if self.most_tokens_per_second:  # a new token reads nothing of what sees
            read = memory_bandwidth(model.device) / self.most_tokens_per_second
            self.most_tokens_per_second *= read / (read - tower)
        self._shown: ShownPictures | None = None
        # Patches of one picture see each other, in both directions.
        self._sees_whole = model.config.model_type == "gemma3"
        self._places = model.model if hasattr(model.model, "get_rope_index") else None

    def pictures(self, tokenizer: Tokenizer) -> ShownPictures:
        """How it is shown pictures."""
        self._shown = self._shown or ShownPictures(self._checkpoint, self._model, tokenizer)
        return self._shown

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: TokenConstraint | None = None,
        images: Sequence[Attachment] = (),
    ) -> Generator[Progress | int, None, bool]:
        """As `CausalModel.generate`; `images` are those that the ids have places for, in order."""
        if not images:
            return (yield from super().generate(ids, settings, end=end, limit=limit, constraint=constraint))
        with self._explained():
            placed = self._placed(ids, images)
            keys = self._keys(ids, placed)
            with self._talks.lent(keys) as cache:
                reading = self._read(cache, ids, keys, placed)
                return (yield from self._apart(self._answer(cache, ids, reading, settings, end, limit, constraint)))

    def _answer(
        self,
        cache: PrefixCache,
        ids: Sequence[int],
        reading: Generator[Progress, None, torch.Tensor],
        settings: GenerationSettings,
        end: Collection[int],
        limit: int,
        constraint: TokenConstraint | None,
    ) -> Generator[Progress | int, None, bool]:
        logits = yield from reading
        cache.asked = len(ids)
        sampler = Sampler(settings, logits.device, constraint)
        self.logprobs = sampler.logprobs
        return (yield from decode(self._model, cache, ids, logits, sampler, end=end, limit=limit, one_row=self.one_row))

    def _apart(self, steps: Generator[Progress | int, None, bool]) -> Generator[Progress | int, None, bool]:
        """The same steps; between them, where others may compute, the model knows nothing of this prompt's places."""
        if self._places is None:
            return (yield from steps)
        deltas = None
        try:
            while True:
                self._places.rope_deltas = deltas
                try:
                    item = next(steps)
                except StopIteration as end:
                    return bool(end.value)
                deltas, self._places.rope_deltas = self._places.rope_deltas, None
                yield item
        finally:
            self._places.rope_deltas = None
            steps.close()

    @property
    def _seen(self) -> ShownPictures:
        assert self._shown is not None, "a prompt with pictures is made with `pictures`"
        return self._shown

    def _placed(self, ids: Sequence[int], images: Sequence[Attachment]) -> list[_Placed]:
        patches = [place for place, each in enumerate(ids) if each == self._seen.patch]
        counts = [self._seen.patches(image) for image in images]
        if len(patches) != sum(counts):
            raise EngineError(
                f"The prompt has {len(patches)} places for the {sum(counts)} patches of its pictures: the checkpoint's "
                "tokenizer and its model do not belong together."
            )
        placed, first = [], 0
        for image, count in zip(images, counts, strict=True):
            placed.append(_Placed(image, patches[first], patches[first + count - 1] + 1))
            first += count
        return placed

    def _read(
        self, cache: PrefixCache, ids: Sequence[int], keys: Sequence[int], placed: Sequence[_Placed]
    ) -> Generator[Progress, None, torch.Tensor]:
        """Feed what of the prompt is not cached yet, each picture in one piece; returns the last logits.

        The cache knows the ids by their `keys`.
        """
        require_known(self._model, ids)
        undivided = placed[-1].end if self._sees_whole else 0
        done = cache.keep_common_prefix(keys, undivided)
        positions = self._positions(ids, placed)
        logits = torch.empty(0)
        while done < len(ids):
            yield Progress("reading", done, len(ids), "tokens")
            stop = max(_chunk_end(done, placed, len(ids), self.pace.chunk), undivided)
            within = [each.image for each in placed if done <= each.start < stop]
            told = self._seen.inputs(within) if within else {}
            if self._sees_whole and within:
                told["token_type_ids"] = self._tensor([int(each == self._seen.patch) for each in ids[done:stop]])
            if positions is not None:
                told["position_ids"] = positions[..., done:stop]
            begun = time.perf_counter()
            logits = self._forward(cache, ids[done:stop], keys[done:stop], told)
            if not within:
                self.pace.took(stop - done, time.perf_counter() - begun)
            done = stop
        return logits

    def _keys(self, ids: Sequence[int], placed: Sequence[_Placed]) -> list[int]:
        """What the cache knows the ids by: a patch by the picture that it is of, which no id of a word is."""
        keys = list(ids)
        for each in placed:
            picture = -1 - int(each.image.sha256, 16)
            for place in range(each.start, each.end):
                if ids[place] == self._seen.patch:
                    keys[place] = picture
        return keys

    def _positions(self, ids: Sequence[int], placed: Sequence[_Placed]) -> torch.Tensor | None:
        """Positions (3, 1, ids) of time, row and column, of a family that has these (M-RoPE, arXiv 2409.12191, 2.1).

        Those of the reply then follow by themselves, by what the model keeps as `rope_deltas`.
        """
        if self._places is None:
            return None
        positions: torch.Tensor
        positions, self._places.rope_deltas = self._places.get_rope_index(
            self._tensor(ids),
            mm_token_type_ids=self._tensor([int(each == self._seen.patch) for each in ids]),
            image_grid_thw=torch.cat([self._seen.grid(each.image) for each in placed]).to(input_device(self._model)),
        )
        return positions

    def _forward(
        self, cache: PrefixCache, ids: Sequence[int], keys: Sequence[int], told: dict[str, Any]
    ) -> torch.Tensor:
        """Logits (vocabulary,) after the last of `ids`, which join the cache under their `keys`."""
        with torch.inference_mode(), cache.feeding(keys) as layers:
            out = self._model(input_ids=self._tensor(ids), **{CACHE: layers}, use_cache=True, logits_to_keep=1, **told)
            logits: torch.Tensor = out.logits[0, -1]
            return logits

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(values)], device=input_device(self._model))


def _chunk_end(done: int, placed: Sequence[_Placed], length: int, chunk: int) -> int:
    """Where the next forward pass ends: a picture is read whole, and one at a time, so that it can be cancelled."""
    stop = min(done + chunk, length)
    coming = next((each for each in placed if done <= each.start), None)
    return coming.end if coming and coming.start < stop else stop
