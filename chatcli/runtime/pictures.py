"""How each family that sees is shown a picture: the tensors it gets, and what stands for it in the prompt.

The checkpoint's image processor makes the tensors; the words around a picture are known here. A test compares
both with the family's own processor. It knows no conversation and no cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from chatcli.conversation import Attachment
from chatcli.images import decoded
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.tokenizer import Tokenizer
from chatcli.runtime.explain import explained
from chatcli.runtime.placement import input_device

REMEMBERED = 4
"""Pictures whose tensors are kept: a large one has a hundred megabytes."""

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Family:
    """What a family reads for one picture: `patches` counts its patch tokens, from configuration and tensors.

    A `wrapped` picture stands between two marks and blank lines, and the template writes the first mark alone;
    else it writes a single patch.
    """

    patches: Callable[[Any, Tensors], int]
    wrapped: bool = False


def _merged_grid(config: Any, tensors: Tensors) -> int:
    """Qwen's: squares of patches are merged into one token (arXiv 2409.12191, 2.1)."""
    return int(tensors["image_grid_thw"].prod()) // int(config.vision_config.spatial_merge_size) ** 2


def _square(config: Any, tensors: Tensors) -> int:
    """LLaVA's: every patch, and the class token of a CLIP tower, less the first where `default` says to drop it."""
    height, width = tensors["pixel_values"].shape[-2:]
    side = int(config.vision_config.patch_size)
    first = int(config.vision_config.model_type == "clip_vision_model")
    dropped = int(config.vision_feature_select_strategy == "default")
    return (height // side) * (width // side) + first - dropped


_FAMILIES: Mapping[str, _Family] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), _Family(_merged_grid)),
    "llava": _Family(_square),
    "gemma3": _Family(lambda config, tensors: int(config.mm_tokens_per_image), wrapped=True),
}
"""By `model_type`; `models.sight.SEEING` has the same names, for those who import no torch."""


class ShownPictures:
    """The pictures that one model has been shown, each known by its hash.

    Attributes:
        placeholder: what the template writes where a picture belongs.
        patch: the id that stands for one patch of a picture.
    """

    def __init__(self, checkpoint: Checkpoint, model: Any, tokenizer: Tokenizer) -> None:
        config = model.config
        self._checkpoint, self._model, self._family = checkpoint, model, _FAMILIES[config.model_type]
        self._processor: Any = None
        self._tensors: OrderedDict[str, Tensors] = OrderedDict()
        self._patches: dict[str, int] = {}
        self._grids: dict[str, torch.Tensor] = {}
        self.patch = int(config.image_token_id)
        self._patch_text = tokenizer.id_to_token(self.patch) or ""
        self.placeholder, self._closing = self._patch_text, ""
        if self._family.wrapped:
            self.placeholder = tokenizer.id_to_token(config.boi_token_id) or ""
            self._closing = tokenizer.id_to_token(config.eoi_token_id) or ""

    def expansion(self, image: Attachment) -> str:
        """What the model reads in place of the placeholder."""
        text = self._patch_text * self.patches(image)
        return f"\n\n{self.placeholder}{text}{self._closing}\n\n" if self._family.wrapped else text

    def patches(self, image: Attachment) -> int:
        """How many patch tokens a picture has."""
        if image.sha256 not in self._patches:
            self._processed(image)
        return self._patches[image.sha256]

    def grid(self, image: Attachment) -> torch.Tensor:
        """Frames, rows and columns of its patches, (1, 3), of a family that tells them apart."""
        self.patches(image)
        return self._grids[image.sha256]

    def inputs(self, images: Sequence[Attachment]) -> dict[str, torch.Tensor]:
        """Arguments of `forward` that show these pictures, in the model's precision and on its device."""
        each = [self._processed(image) for image in images]
        found = {name: torch.cat([tensors[name] for tensors in each]).to(input_device(self._model)) for name in each[0]}
        return {
            name: tensor.to(self._model.dtype) if tensor.is_floating_point() else tensor
            for name, tensor in found.items()
        }

    def _processed(self, image: Attachment) -> Tensors:
        known = self._tensors.get(image.sha256)
        if known is None:
            pixels = decoded(image.data, image.name)
            with explained(self._checkpoint.name):
                made = self._images()(images=[pixels], return_tensors="pt")
            known = {name: made[name] for name in ("pixel_values", "image_grid_thw") if name in made}
            self._tensors[image.sha256] = known
            self._patches[image.sha256] = self._family.patches(self._model.config, known)
            if "image_grid_thw" in known:
                self._grids[image.sha256] = known["image_grid_thw"]
        self._tensors.move_to_end(image.sha256)
        while len(self._tensors) > REMEMBERED:
            self._tensors.popitem(last=False)
        return known

    def _images(self) -> Any:
        """The checkpoint's image processor; it comes with the first picture, so that nobody else waits for it."""
        if self._processor is None:
            # By its module: older releases of transformers 5 hide the name where torchvision is not installed.
            from transformers.models.auto.image_processing_auto import AutoImageProcessor

            self._processor = AutoImageProcessor.from_pretrained(
                self._checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
        return self._processor
