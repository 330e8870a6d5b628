"""Which ChatGLM a checkpoint is, and its tokenizer: five families share one `model_type` and differ in how they talk.

Told from config.json, tokenizer_config.json and the names around; Python files are read as text and never run. It
knows no weights and no prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatcli.errors import BrokenCheckpoint
from chatcli.models.pieces import PieceTokenizer, Spelling, read_pieces
from chatcli.models.tiktoken import build, read_ranks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from chatcli.models.checkpoint import Checkpoint

Variant = Literal["chatglm", "chatglm2", "chatglm3", "codegeex2", "chatglm4", "chatglm4-base"]

_NAMES: tuple[Variant, ...] = ("chatglm3", "chatglm2", "codegeex2")


def variant(config: Mapping[str, Any], folder: Path, name: str = "") -> Variant:
    """The family of a checkpoint with `model_type` "chatglm"; `name` is what the person called it.

    Where nothing tells ChatGLM2 from ChatGLM3, the length of the context does, as far as their authors left it alone.
    """
    guess: Variant = "chatglm3" if config.get("seq_length") == 8192 else "chatglm2"
    return told_variant(config, folder, name) or guess


def told_variant(config: Mapping[str, Any], folder: Path, name: str = "") -> Variant | None:
    """The same where something tells it for certain, else None.

    ChatGLM2 and ChatGLM3 have the same shapes and the same vocabulary. The surest sign comes first: the
    tokenizer's code knows the role `<|observation|>`, or it does not; then names.
    """
    if "padded_vocab_size" not in config:
        return "chatglm"
    settings = _tokenizer_config(folder)
    if settings.get("tokenizer_class") == "ChatGLM4Tokenizer" or config["padded_vocab_size"] == 151552:
        # Only the chat models stretch their positions; the base model reads 8192 tokens.
        return "chatglm4" if "rope_ratio" in config else "chatglm4-base"
    code = _text(folder / "tokenization_chatglm.py")
    if "<|observation|>" in code:
        return "chatglm3"
    for said in (config.get("_name_or_path"), settings.get("name_or_path"), name, folder.name):
        for family in _NAMES:
            if family in str(said or "").lower():
                return family
    if "rotary_percent" in config or "interleaved_qkv" in config:
        return "codegeex2"
    return "chatglm2" if code else None


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


def growth(config: Mapping[str, Any], element: int) -> int:
    """How many bytes more than its files a model takes with `element` bytes a weight; less than 0 where it shrinks.

    Packed weights are unpacked, and the first ChatGLM's output head, which its files hold a second time, is not loaded.
    """
    hidden, later = int(config.get("hidden_size") or 0), "padded_vocab_size" in config
    bits = int(config.get("quantization_bit") or 0)
    table = int(config.get("vocab_size") or 0) * hidden
    if later:
        width = int(config.get("kv_channels") or 0)
        query = int(config.get("num_attention_heads") or 0) * width
        fused = query + 2 * int(config.get("multi_query_group_num") or 1) * width
        layer = hidden * (fused + query + 3 * int(config.get("ffn_hidden_size") or 0))
    else:
        layer = hidden * (4 * hidden + 2 * int(config.get("inner_hidden_size") or 0))
    saved = 1 - bits / 16 if bits else 0  # the files count as 16-bit numbers, packed or not
    embedding = bool(config.get("quantization_embeddings"))
    head = 0 if later else -table * (bits / 16 if embedding else 1)
    packed = int(config.get("num_layers") or 0) * layer + table * embedding
    return int(element * (packed * saved + head))


def read_tokenizer(checkpoint: Checkpoint) -> Tokenizer | PieceTokenizer:
    """The tokenizer of a checkpoint with `model_type` "chatglm".

    Raises:
        BrokenCheckpoint: its file is missing or damaged.
    """
    family = variant(checkpoint.config, checkpoint.folder, checkpoint.name)
    return glm4(checkpoint.folder) if family.startswith("chatglm4") else pieces(family, checkpoint.folder)


_MASKS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_GLM4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pieces(family: Variant, folder: Path, *, headers: bool = True) -> PieceTokenizer:
    """The tokenizer of a family with a SentencePiece model; for `headers` see `PieceTokenizer`.

    Raises:
        BrokenCheckpoint: its file is missing or damaged.
    """
    if family == "chatglm":
        return _chatglm1(folder / "ice_text.model")
    model = read_pieces(folder / "tokenizer.model")
    roles = ROLES if family == "chatglm3" else ()
    first = model.get_piece_size()
    special = {text: first + number for number, text in enumerate((*_MASKS, *roles))}
    ends = {model.id_to_piece(number): number for number in (0, 1, 2)}
    spoken = special if roles else ()
    return PieceTokenizer(model, {**ends, **special}, roles=roles, headers=headers, spoken=spoken)


def glm4(folder: Path) -> Tokenizer:
    """GLM-4's tokenizer, of its tiktoken file and the special tokens in tokenizer_config.json."""
    entries = _tokenizer_config(folder).get("added_tokens_decoder")
    try:
        special = {str(entry["content"]): int(number) for number, entry in entries.items()}  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError):
        special = {}
    if not special:
        raise BrokenCheckpoint(f"{folder / 'tokenizer_config.json'} lists no added tokens: download the model again.")
    return build(read_ranks(folder / "tokenizer.model"), _GLM4_PATTERN, special)


def _chatglm1(path: Path) -> PieceTokenizer:
    model = read_pieces(path)
    mask = int(model.piece_to_id("[MASK]"))
    if model.id_to_piece(mask) != "[MASK]":
        raise BrokenCheckpoint(
            f"{path} is from before April 2023 and lacks the special tokens: get the newer files of THUDM/chatglm-6b."
        )
    controls = [number for number in range(model.get_piece_size()) if model.is_control(number)]
    special = {model.id_to_piece(number): number for number in controls}
    return PieceTokenizer(model, special, spelling=Spelling(_write_spaces, _read_spaces))


def _write_spaces(text: str) -> str:
    """Newlines, tabs and runs of spaces as the pieces that stand for them; the longest runs first."""
    text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
    for length in range(80, 1, -1):
        text = text.replace(" " * length, f"<|blank_{length}|>")
    return text


def _read_spaces(text: str) -> str:
    text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
    for length in range(80, 1, -1):
        text = text.replace(f"<|blank_{length}|>", " " * length)
    return text
