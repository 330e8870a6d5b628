"""The built-in model: a small Llama that answers questions about chatcli itself.

It is a checkpoint like any other, with nothing special about how it is loaded.
"""

from __future__ import annotations

from pathlib import Path

NAME = "guide"
"""What people call it where a model's name is asked for."""


def folder() -> Path:
    """Where its config.json, tokenizer and weights are."""
    return Path(__file__).parent / "model"
