"""What a checkpoint's tokenizer files say: the tokenizer, its special tokens, its chat template.

Reads the files directly, as transformers does, but without transformers (0.03 s against 2). It
knows nothing of prompts; a checkpoint without tokenizer.json is left to the runtime to convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint, read_json
from chatcli.models.tokenizer import Tokenizer

# Model types whose tokenizers transformers cannot convert, with the module here that reads their files.
_OWN_FILES = {"chatglm": "chatglm", "qwen": "qwen"} | dict.fromkeys(
    ("Yi", "baichuan", "internlm", "internlm2", "orion", "skywork", "telechat", "yuan"), "sentencepiece_file"
)
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Texts of tokens with a meaning of their own.

    `named` holds `bos_token`, `eos_token` ... as templates know them; `special` are all texts marked
    special; `added` are further added tokens, such as `<think>` or runs of spaces.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    special: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()

    def control(self, template: str) -> frozenset[str]:
        """The texts that would steer a model if a person could type them.

        All special tokens; of the other added tokens those that the template writes itself: `<b>` in
        Gemma's vocabulary is ordinary text, `<think>` in Qwen's template is not.
        """
        written = {t for t in self.added if t in template and not t.strip("▁ \n\t\r").isalnum() and t.strip("▁ \n\t\r")}
        return self.special | written


def _text(value: object) -> str:
    """A token's text: a plain string, or an AddedToken written as an object."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _optional(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    path = checkpoint.folder / name
    return read_json(path) if path.is_file() else {}


def special_tokens(checkpoint: Checkpoint) -> SpecialTokens:
    """All special and added tokens of tokenizer_config.json, special_tokens_map.json and tokenizer.json.

    Raises:
        BrokenCheckpoint: one of these files is no JSON object.
    """
    settings = _optional(checkpoint, "tokenizer_config.json")
    legacy = _optional(checkpoint, "special_tokens_map.json")
    named = {key: text for key in _NAMES if (text := _text(settings.get(key)) or _text(legacy.get(key)))}
    special, added = set(named.values()), set[str]()
    for source in (settings, legacy):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            extra = source.get(key) or ()
            special |= {_text(token) for token in (extra.values() if isinstance(extra, Mapping) else extra)}
    decoder = settings.get("added_tokens_decoder")
    entries = [*decoder.values()] if isinstance(decoder, Mapping) else []
    listed = _optional(checkpoint, "tokenizer.json").get("added_tokens")
    for entry in entries + (listed if isinstance(listed, list) else []):
        if isinstance(entry, Mapping):
            (special if entry.get("special") else added).add(_text(entry))
    added |= {key for key in _optional(checkpoint, "added_tokens.json") if isinstance(key, str)}
    return SpecialTokens(named, frozenset(special - {""}), frozenset(added - special - {""}))


def chat_template(checkpoint: Checkpoint) -> str | None:
    """The checkpoint's own template: chat_template.jinja, .json, or in tokenizer_config.json; the one named "default".

    Raises:
        BrokenCheckpoint: the file that should hold it cannot be read.
    """
    path = checkpoint.folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8") or None
        except (OSError, ValueError) as error:
            raise BrokenCheckpoint(f"{path} cannot be read as text: download the model again.") from error
    for name in ("chat_template.json", "tokenizer_config.json", "processor_config.json"):
        found = _optional(checkpoint, name).get("chat_template")
        if isinstance(found, list):
            pairs = [t for t in found if isinstance(t, Mapping) and isinstance(t.get("template"), str)]
            named = {str(t.get("name")): str(t["template"]) for t in pairs}
            found = named.get("default") or next(iter(named.values()), None)
        if isinstance(found, str) and found:
            return found
    return None


def tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    """The tokenizer of tokenizer.json, or of the files that a family of `_OWN_FILES` has; None where there is neither.

    Raises:
        BrokenCheckpoint: the file is damaged.
    """
    path = checkpoint.folder / "tokenizer.json"
    if not path.is_file():
        own = _OWN_FILES.get(checkpoint.model_type)
        return import_module(f"chatcli.models.{own}").read_tokenizer(checkpoint) if own else None
    from tokenizers import Tokenizer as FastTokenizer

    try:
        return FastTokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain `Exception`
        raise BrokenCheckpoint(
            f"{path} is no usable tokenizer ({str(error)[:100]}): download the model again."
        ) from error
