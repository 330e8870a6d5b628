"""Which checkpoints need Python code of their own, because neither transformers nor a port knows their family.

It runs none; it knows of no person and no agreement.
"""

from __future__ import annotations

from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

from chatcli.adapters.table import ports
from chatcli.models.checkpoint import Checkpoint, read_json
from chatcli.models.remote_code import model_code, tokenizer_code


def code_needed(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes that only the checkpoint's own code provides; none for a native family."""
    if checkpoint.model_type in ports():
        return ()
    model = () if checkpoint.model_type in CONFIG_MAPPING_NAMES else model_code(checkpoint)
    tokenizer = tokenizer_code(checkpoint)
    return (*model, *(() if not tokenizer or _has_native_tokenizer(checkpoint) else tokenizer))


def _has_native_tokenizer(checkpoint: Checkpoint) -> bool:
    """Whether transformers has the class that tokenizer_config.json names, or knows better than the file."""
    from transformers.models.auto import tokenization_auto as known

    name = str(read_json(checkpoint.folder / "tokenizer_config.json").get("tokenizer_class") or "").removesuffix("Fast")
    return checkpoint.model_type in known.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS or any(
        known.tokenizer_class_from_name(each) is not None for each in (name, f"{name}Fast") if name
    )
