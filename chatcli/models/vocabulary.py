"""What a checkpoint's tokenizer files say: the tokenizer, its special tokens, its chat templates.

Reads the files directly, as transformers does, but without transformers (0.03 s against 2). It
knows nothing of prompts; a checkpoint without tokenizer.json is left to the runtime to convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint, read_json
from chatcli.models.tokenizer import Tokenizer

_OWN_FILES = {"chatglm": "chatglm", "qwen": "qwen"} | dict.fromkeys(
    ("Yi", "baichuan", "internlm", "internlm2", "orion", "skywork", "telechat", "yuan"), "sentencepiece_file"
)
"""Model types whose tokenizers transformers cannot convert, with the module here that reads their files."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Texts of tokens with a meaning of their own.

    `named` holds `bos_token`, `image_token` ... as templates know them; `special` are all texts marked
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
    if checkpoint.gguf and not checkpoint.texts:
        from chatcli.models.gguf_tokenizer import tokenizer_config

        return tokenizer_config(checkpoint.gguf) if name == "tokenizer_config.json" else {}
    path = _folder(checkpoint) / name
    return read_json(path) if path.is_file() else {}


def _folder(checkpoint: Checkpoint) -> Path:
    return checkpoint.texts or checkpoint.folder


def special_tokens(checkpoint: Checkpoint) -> SpecialTokens:
    """All special and added tokens of tokenizer_config.json, special_tokens_map.json and tokenizer.json.

    Raises:
        BrokenCheckpoint: one of these files is no JSON object.
    """
    settings = _optional(checkpoint, "tokenizer_config.json")
    legacy = _optional(checkpoint, "special_tokens_map.json")
    # Where tokenizer_config.json lists its added tokens, transformers does not read the older file at all.
    sources = (settings, legacy) if "added_tokens_decoder" in settings else (legacy, settings)
    named: dict[str, str] = {}
    for source in reversed(sources):
        extra = source.get("extra_special_tokens")
        entries = {**source, **extra} if isinstance(extra, Mapping) else source
        named |= {key: text for key, value in entries.items() if key.endswith("_token") and (text := _text(value))}
    special, added = set(named.values()), set[str]()
    for source in (settings, legacy):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            extra = source.get(key) or ()
            special |= {_text(token) for token in (extra.values() if isinstance(extra, Mapping) else extra)}
    decoder = settings.get("added_tokens_decoder")
    listed = _optional(checkpoint, "tokenizer.json").get("added_tokens")
    for entry in [*(decoder.values() if isinstance(decoder, Mapping) else ()), *(listed or ())]:
        if isinstance(entry, Mapping):
            (special if entry.get("special") else added).add(_text(entry))
    added |= {key for key in _optional(checkpoint, "added_tokens.json") if isinstance(key, str)}
    return SpecialTokens(named, frozenset(special - {""}), frozenset(added - special - {""}))


def chat_templates(checkpoint: Checkpoint) -> tuple[dict[str, str], str]:
    """The checkpoint's own templates by name ("default", "tool_use", "rag" ...) and where they were found.

    As transformers reads them: chat_template.jinja and additional_chat_templates/*.jinja come before
    tokenizer_config.json, a text or a list of named ones; the files of processors are the last resort. A GGUF file
    holds its own. Without templates, the place is empty.

    Raises:
        BrokenCheckpoint: the file that should hold them cannot be read.
    """
    if checkpoint.gguf and not checkpoint.texts:
        found = _named(_optional(checkpoint, "tokenizer_config.json").get("chat_template"))
        return found, "the GGUF file" if found else ""
    folder = _folder(checkpoint)
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    single = folder / "chat_template.jinja"
    if single.is_file():
        files = {"default": single, **{name: path for name, path in files.items() if name != "default"}}
    if found := {name: text for name, path in files.items() if (text := _read_text(path))}:
        return found, "chat_template.jinja" if single.is_file() else "additional_chat_templates"
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        if found := _named(_optional(checkpoint, name).get("chat_template")):
            return found, name
    return {}, ""


def _named(value: object) -> dict[str, str]:
    """Templates as JSON files write them: one text, a list of named ones, or an object of them."""
    if isinstance(value, list):
        value = {str(t.get("name")): t.get("template") for t in value if isinstance(t, Mapping)}
    if isinstance(value, Mapping):
        return {str(name): text for name, text in value.items() if isinstance(text, str) and text}
    return {"default": value} if isinstance(value, str) and value else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BrokenCheckpoint(f"{path} cannot be read as text: download the model again.") from error


def tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    """The tokenizer of tokenizer.json, or of the files that a family of `_OWN_FILES` has; None where there is neither.

    Raises:
        BrokenCheckpoint: the file is damaged.
    """
    if checkpoint.gguf and not checkpoint.texts:
        from chatcli.models.gguf_tokenizer import read_tokenizer

        return read_tokenizer(checkpoint.gguf)
    path = _folder(checkpoint) / "tokenizer.json"
    if not path.is_file():
        own = _OWN_FILES.get(checkpoint.model_type)
        return import_module(f"chatcli.models.{own}").read_tokenizer(checkpoint) if own else None
    from tokenizers import Tokenizer as FastTokenizer

    try:
        found = FastTokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain `Exception`
        raise BrokenCheckpoint(
            f"{path} is no usable tokenizer ({str(error)[:100]}): download the model again."
        ) from error
    # Some files hold how their model's training cut and padded texts.
    found.no_truncation()
    found.no_padding()
    return found
