"""Which ChatGLM a checkpoint is: five families share one `model_type` and differ in how they are talked to.

Told from config.json, tokenizer_config.json and the names around; Python files are read as text and never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Variant = Literal["chatglm", "chatglm2", "chatglm3", "codegeex2", "glm4"]

_NAMES: tuple[Variant, ...] = ("chatglm3", "chatglm2", "codegeex2")


def variant(config: Mapping[str, Any], folder: Path, name: str = "") -> Variant:
    """The family of a checkpoint with `model_type` "chatglm"; `name` is what the person called it.

    ChatGLM2 and ChatGLM3 have the same weights and the same vocabulary. So the surest sign comes first: the
    tokenizer's code knows the role `<|observation|>`, or it does not; then names; then what configurations tend to say.
    """
    if "padded_vocab_size" not in config:
        return "chatglm"
    settings = _tokenizer_config(folder)
    if settings.get("tokenizer_class") == "ChatGLM4Tokenizer" or config["padded_vocab_size"] == 151552:
        return "glm4"
    code = _text(folder / "tokenization_chatglm.py")
    if "<|observation|>" in code:
        return "chatglm3"
    for said in (config.get("_name_or_path"), settings.get("name_or_path"), name, folder.name):
        for family in _NAMES:
            if family in str(said or "").lower():
                return family
    if "rotary_percent" in config or "interleaved_qkv" in config:
        return "codegeex2"
    return "chatglm3" if config.get("seq_length") == 8192 and not code else "chatglm2"


def _tokenizer_config(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(_text(folder / "tokenizer_config.json"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
