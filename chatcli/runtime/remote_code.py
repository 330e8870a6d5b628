"""Which checkpoints need Python code of their own, because neither transformers nor a port knows their family.

It runs none; it knows of no person and no agreement.
"""

from __future__ import annotations

from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

from chatcli.adapters.table import ports
from chatcli.models.checkpoint import Checkpoint, read_json
from chatcli.models.remote_code import model_code, tokenizer_code


def code_needed(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes of the checkpoint's own code that would run; none where a native family or a port does without.

    One that is needed brings all others that are named: transformers trusts a checkpoint wholly or not at all.
    """
    if checkpoint.model_type in ports():
        return ()
    model, tokenizer = model_code(checkpoint), tokenizer_code(checkpoint)
    native = not model or checkpoint.model_type in CONFIG_MAPPING_NAMES
    return () if native and (not tokenizer or _has_native_tokenizer(checkpoint)) else (*model, *tokenizer)


def _has_native_tokenizer(checkpoint: Checkpoint) -> bool:
    """Whether transformers has the class that tokenizer_config.json names, or knows better than the file."""
    from transformers.models.auto import tokenization_auto as known

    name = str(read_json(checkpoint.folder / "tokenizer_config.json").get("tokenizer_class") or "").removesuffix("Fast")
    return checkpoint.model_type in known.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS or any(
        known.tokenizer_class_from_name(each) is not None for each in (name, f"{name}Fast") if name
    )
