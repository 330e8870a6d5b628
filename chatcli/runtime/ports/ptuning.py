"""P-tuning v2 (arXiv 2110.07602): trained keys and values that stand before every text, in each layer.

They are not rotated, everything sees them, and they shift no position. Names and shapes are those of ChatGLM's
`prefix_encoder`; this module knows no attention.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.cache_utils import Cache


class PrefixEncoder(nn.Module):
    """The keys and values of `length` virtual tokens.

    `shape` is (layers, heads of keys, width of a head). Plain prefixes are a table; those with a projection go
    through two linear layers of the width `hidden`, from rows of the width `narrow`.
    """

    def __init__(self, length: int, shape: tuple[int, int, int], *, hidden: int = 0, narrow: int = 0) -> None:
        super().__init__()
        self.length = length
        self._shape = shape
        layers, heads, width = shape
        full = 2 * layers * heads * width
        self.embedding = nn.Embedding(length, narrow if hidden else full)
        if hidden:
            self.trans = nn.Sequential(nn.Linear(narrow, hidden), nn.Tanh(), nn.Linear(hidden, full))

    def fill(self, cache: Cache, batch: int) -> None:
        """Put the prefix into an empty cache, for each of `batch` rows."""
        layers, heads, width = self._shape
        rows = self.embedding.weight
        if hasattr(self, "trans"):
            rows = self.trans(rows)
        # (length, 2 layers, heads, width) -> per slice (batch, heads, length, width)
        slices = rows.view(self.length, 2 * layers, heads, width).permute(1, 2, 0, 3)[:, None]
        slices = slices.expand(-1, batch, -1, -1, -1)
        for layer in range(layers):
            cache.update(slices[2 * layer], slices[2 * layer + 1], layer)


def with_prefix(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """A 2-D attention mask in which the prefix is visible, too."""
    if mask is None or not length:
        return mask
    return torch.cat([mask.new_ones(mask.shape[0], length), mask], dim=1)
