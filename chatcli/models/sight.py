"""Which models can be shown pictures, and what is said of one that cannot.

It knows configurations; it opens no picture and loads no model.
"""

from __future__ import annotations

from chatcli.conversation import Conversation
from chatcli.errors import UsageError
from chatcli.models.checkpoint import Checkpoint, read_json

SEEING = frozenset({"gemma3", "llava", "qwen2_5_vl", "qwen2_vl", "qwen3_vl"})
"""The model types that are shown pictures; each is tested against the processor and `generate` of transformers."""


def is_shown_pictures(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of a family that is shown pictures, and says how they are prepared."""
    folder = checkpoint.folder
    if checkpoint.model_type not in SEEING:
        return False
    if (folder / "preprocessor_config.json").is_file():
        return True
    # Where transformers 5 writes it.
    processor = folder / "processor_config.json"
    return processor.is_file() and "image_processor" in read_json(processor)


def require_no_picture(conversation: Conversation, checkpoint: Checkpoint) -> None:
    """Refuse a last question with a picture, for a model that cannot be shown one; earlier pictures pass.

    Raises:
        UsageError: it has one.
    """
    asked = next((each for each in reversed(conversation.messages) if each.role == "user"), None)
    if not asked or not asked.images:
        return
    name = checkpoint.name
    if "vision_config" not in checkpoint.config:
        reason = f"{name} reads text only"
    elif checkpoint.model_type in SEEING:
        reason = f"{name} lacks preprocessor_config.json, without which it cannot be shown a picture"
    else:
        reason = f"{name} sees pictures, but chatcli cannot show any to its family ({checkpoint.model_type}) yet"
    raise UsageError(f"{reason}: ask without it, or choose a model that sees, such as Qwen/Qwen2.5-VL-3B-Instruct.")
