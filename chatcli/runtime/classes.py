"""Which of transformers' classes loads a model, and which of ours then generates with it.

It loads nothing; it knows configurations and the three ways in which models take a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transformers

from chatcli.models.checkpoint import Checkpoint
from chatcli.models.sight import SEEING, is_shown_pictures

if TYPE_CHECKING:
    from chatcli.runtime.model import CausalModel


def auto_class(config: Any) -> Any:
    """The door of transformers for a configuration.

    Of a model that sees, the whole is loaded where we can show it pictures, or where nothing less is known; else
    the part that speaks.
    """
    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForSeq2SeqLM
    speaks, sees = transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText
    # The mappings are keyed by configuration class; a port's classes are in none but that of causal models.
    whole = type(config) in sees._model_mapping
    if whole and (config.model_type in SEEING or type(config) not in speaks._model_mapping):
        return sees
    return speaks


def serving(model: Any, checkpoint: Checkpoint) -> CausalModel:
    """The loaded `model` behind the interface that engines know."""
    from chatcli.runtime.model import CausalModel

    if model.config.is_encoder_decoder:
        from chatcli.runtime.seq2seq import Seq2SeqModel

        return Seq2SeqModel(model)
    if is_shown_pictures(checkpoint):
        from chatcli.runtime.vision import VisionModel

        return VisionModel(model, checkpoint)
    return CausalModel(model)
