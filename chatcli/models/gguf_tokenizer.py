"""The tokenizer that a GGUF file's metadata describe, as tokenizer.json and tokenizer_config.json would.

A vocabulary is byte-level BPE with its merges, or SentencePiece's pieces with their scores; how a text is split before
that, the file only names. It knows no prompt, and needs no transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chatcli.errors import BrokenCheckpoint
from chatcli.models.gguf_config import tokens as vocabulary
from chatcli.models.gguf_file import GgufFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
"""`tokenizer.ggml.token_type`, as SentencePiece numbers them."""

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_APOSTROPHES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_APOSTROPHES}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_APOSTROPHES}|{_WORDS}|\p{{N}}|{_REST}"
_QWEN35 = (
    rf"{_APOSTROPHES}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = "|".join((*_CASED, r"\p{N}", _CASED_REST))
_GPT_4O = "|".join((*(f"{each}{_APOSTROPHES}?" for each in _CASED), r"\p{N}{1,3}", _CASED_REST))
_DEEPSEEK_3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT_2 = "gpt-2"
"""Stands for the expression that `tokenizers` has built in."""

_SPLITS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling"), (_GPT_2,)),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"), (r"\p{N}", _GPT_2)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2"), (_LLAMA3,)),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "midm-2.0"), (_LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan"), (_QWEN2,)),
    "qwen35": (_QWEN35,),
    "tekken": (_TEKKEN,),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), (_GPT_4O,)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), (r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_3)),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}
"""How a text is split before byte-level BPE, by `tokenizer.ggml.pre`: one expression after the other."""
_UNNAMED = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen2moe": "qwen2", "command-r": "command-r"}
"""The same for the files of families from before the name was written."""
_WHOLE_FIRST = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "glm4", "tekken"}
)
"""Those whose vocabularies take a word that they hold as it is, whatever the merges say."""

_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
_TEMPLATE = "tokenizer.chat_template"


def tokenizer_config(file: GgufFile) -> dict[str, Any]:
    """What tokenizer_config.json would say: special and added tokens, and the chat templates."""
    texts, kinds = vocabulary(file), _kinds(file)
    said: dict[str, Any] = {}
    for key, name in _SPECIAL.items():
        number = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and 0 <= number < len(texts):
            said[name] = texts[number]
    said["added_tokens_decoder"] = {str(entry["id"]): entry for entry in _added(texts, kinds)}
    templates = [
        {"name": "default" if key == _TEMPLATE else key.removeprefix(f"{_TEMPLATE}."), "template": text}
        for key, text in file.metadata.items()
        if (key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")) and isinstance(text, str)
    ]
    return {**said, "chat_template": templates} if templates else said


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer itself.

    Raises:
        BrokenCheckpoint: it is of a kind that is not known, or its parts contradict each other.
    """
    from tokenizers import Tokenizer as FastTokenizer

    kind = file.metadata.get("tokenizer.ggml.model")
    if not vocabulary(file):
        raise BrokenCheckpoint(f"{file.files[0]} has no tokenizer, so it cannot chat: get a file with its vocabulary.")
    if kind not in ("gpt2", "llama"):
        raise BrokenCheckpoint(
            f"{file.files[0]} has a tokenizer of the kind {kind}, which is not known: use the original checkpoint."
        )
    described = _byte_level(file) if kind == "gpt2" else _sentencepiece(file)
    added = _added(described["model"]["vocab"], _kinds(file))
    described = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **described}
    try:
        return FastTokenizer.from_str(json.dumps(described))
    except Exception as error:  # the Rust side raises plain `Exception`
        raise BrokenCheckpoint(
            f"{file.files[0]} has a tokenizer that contradicts itself ({str(error)[:100]}): get the model again."
        ) from error


def _kinds(file: GgufFile) -> list[int]:
    """What each token is; all are words where nothing is said."""
    texts, said = vocabulary(file), file.metadata.get("tokenizer.ggml.token_type")
    if said is None:
        return [_NORMAL] * len(texts)
    if not isinstance(said, list) or len(said) != len(texts):
        raise BrokenCheckpoint(f"{file.files[0]} has a vocabulary whose parts differ in length: get the model again.")
    return said


def _added(texts: Sequence[str] | Mapping[str, int], kinds: Sequence[int]) -> list[dict[str, Any]]:
    """The tokens that are found in a text before it is split: control tokens, and those of the makers' own."""
    fixed = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": text, "special": kind == _CONTROL, **fixed}
        for number, (text, kind) in enumerate(zip(texts, kinds, strict=False))
        if kind in (_CONTROL, _USER_DEFINED) and text.strip("▁ ")
    ]


def _byte_level(file: GgufFile) -> dict[str, Any]:
    said = file.metadata.get("tokenizer.ggml.pre")
    named = said if said not in (None, "default") else _UNNAMED.get(file.architecture, _GPT_2)
    if named not in _SPLITS:
        raise BrokenCheckpoint(
            f"{file.files[0]} splits text in a way that is not known here ({named}): use the original checkpoint."
        )
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in _SPLITS[named]
        if expression != _GPT_2
    ]
    bytes_shown = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps.append({**bytes_shown, "use_regex": _GPT_2 in _SPLITS[named]})
    merges = file.metadata.get("tokenizer.ggml.merges") or []
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": {**bytes_shown, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": named in _WHOLE_FIRST,
            "vocab": {text: number for number, text in enumerate(vocabulary(file))},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _sentencepiece(file: GgufFile) -> dict[str, Any]:
    kinds = _kinds(file)
    # Runs of spaces are written as such; as pieces they are spelled like any other space.
    texts = ["▁" * len(text) if text and not text.strip(" ") else text for text in vocabulary(file)]
    spaced = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    replace: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prefix = [{"type": "Prepend", "prepend": "▁"}] if spaced else []
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if spaced:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = next((text for text, kind in zip(texts, kinds, strict=True) if kind == _UNKNOWN), None)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": _BYTE in kinds,
            "vocab": {text: number for number, text in enumerate(texts)},
            "merges": _merges(texts, kinds, _scores(file, len(texts))),
        },
    }


def _scores(file: GgufFile, count: int) -> Sequence[float]:
    """How early each piece is put together; Gemma's stand in the order of the vocabulary, whatever the scores say."""
    said = file.metadata.get("tokenizer.ggml.scores")
    if file.architecture.startswith("gemma") or not isinstance(said, list) or len(said) != count:
        return range(0, -count, -1)
    return said


def _merges(texts: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges that SentencePiece's scores amount to: each piece from every two that make it, best pieces first."""
    numbers = {text: number for number, text in enumerate(texts)}
    ranked: list[tuple[float, int, int, str, str]] = []
    for text, kind, score in zip(texts, kinds, scores, strict=True):
        if len(text) < 2 or (kind not in (_NORMAL, _USER_DEFINED)):
            continue
        for place in range(1, len(text)):
            left, right = text[:place], text[place:]
            if left in numbers and right in numbers:
                ranked.append((-score, numbers[left], numbers[right], left, right))
    ranked.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in ranked]
