"""A loaded encoder-decoder model: the encoder reads the whole prompt, the decoder writes the reply.

Nothing is kept from one call to the next: the encoder sees a prompt in both directions, so a prompt that differs
in its last token differs in all of its states. It knows ids and a sampler; no text and no template.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from chatcli.conversation import Attachment
from chatcli.errors import EngineError
from chatcli.generation import GenerationSettings, Progress
from chatcli.runtime.decode import require_known
from chatcli.runtime.kv import CACHE
from chatcli.runtime.model import CausalModel
from chatcli.runtime.placement import input_device
from chatcli.runtime.sampling import Sampler

if TYPE_CHECKING:
    from chatcli.runtime.constrain import TokenConstraint


class Seq2SeqModel(CausalModel):
    """Generates ids as a `CausalModel` does; of two calls each reads its prompt anew."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        # A new token reads the decoder alone, and of its cross-attention not all.
        self.most_tokens_per_second = 0.0
        said = (getattr(part, "decoder_start_token_id", None) for part in (model.generation_config, model.config))
        self._start = next((each for each in said if each is not None), None)

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
        """As `CausalModel.generate`; the encoder gets `ids` up to their last id of `end`, the decoder those behind it.

        A prompt ends with such an id, and a reply holds none: what is behind it is the beginning of the reply.
        """
        with self._explained():
            prompt, begun = _divided(ids, end)
            require_known(self._model, ids)
            yield Progress("reading", 0, len(ids), "tokens")
            seen = [self._first_id, *begun]
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            with torch.inference_mode():
                states = self._model.get_encoder()(input_ids=self._tensor(prompt))
            logits = self._step(states, cache, seen)
            sampler = Sampler(settings, logits.device, constraint)
            self.logprobs = sampler.logprobs
            for made in range(limit):
                token = sampler.draw(logits, seen)
                if token in end:
                    return True
                seen.append(token)
                yield token
                if made + 1 < limit:
                    logits = self._step(states, cache, [token])
            return False

    @property
    def batches(self) -> bool:
        """No: prompts are read one after the other."""
        return False

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        settings: Sequence[GenerationSettings],
        *,
        end: Sequence[Collection[int]],
        limits: Sequence[int],
        stopped: Collection[int],
        constraints: Sequence[TokenConstraint | None],
    ) -> Generator[tuple[int, int | None]]:
        """The replies one after the other: for each row its tokens, then None where it ended by itself."""
        for row, (ids, said) in enumerate(zip(prompts, settings, strict=True)):
            tokens = self.generate(ids, said, end=end[row], limit=limits[row], constraint=constraints[row])
            while row not in stopped:
                try:
                    token = next(tokens)
                except StopIteration as ended:
                    if ended.value:
                        yield row, None
                    break
                if not isinstance(token, Progress):
                    yield row, token
            tokens.close()

    @property
    def _first_id(self) -> int:
        if self._start is None:
            raise EngineError("The checkpoint does not say which token its replies begin with: get it again.")
        return int(self._start)

    def _step(self, states: Any, cache: EncoderDecoderCache, ids: Sequence[int]) -> torch.Tensor:
        """Logits (vocabulary,) after the last of the decoder's `ids`, which join the cache."""
        with torch.inference_mode():
            out = self._model(
                encoder_outputs=states, decoder_input_ids=self._tensor(ids), **{CACHE: cache}, use_cache=True
            )
        logits: torch.Tensor = out.logits[0, -1]
        return logits

    def _tensor(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(ids)], device=input_device(self._model))


def _divided(ids: Sequence[int], end: Collection[int]) -> tuple[list[int], list[int]]:
    """A prompt with its end token, and what of the reply is there already."""
    length = next((place + 1 for place in range(len(ids) - 1, -1, -1) if ids[place] in end), len(ids))
    return list(ids[:length]), list(ids[length:])
