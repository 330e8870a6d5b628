"""The tokenizer made of a tiktoken file gives the ids that the original code recorded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from chatcli.errors import BrokenCheckpoint
from chatcli.models.tiktoken import build, read_ranks

FOLDER = Path(__file__).parent.parent / "golden" / "chatglm" / "glm4"
GOLDEN: dict[str, Any] = json.loads((FOLDER / "golden_tokenizer.json").read_text(encoding="utf-8"))
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build(read_ranks(FOLDER / "tokenizer.model"), PATTERN, GOLDEN["meta"]["special"])


@pytest.mark.parametrize("case", GOLDEN["strings"], ids=lambda case: repr(case["text"])[:30])
def test_text_becomes_the_recorded_ids_and_back(tokenizer: Any, case: dict[str, Any]) -> None:
    assert tokenizer.encode(case["text"], add_special_tokens=False).ids == case["ids_no_special"]
    assert tokenizer.decode(case["ids"]) == case["decode_skip_special"]


@pytest.mark.parametrize("case", GOLDEN["decode_ids"], ids=lambda case: str(case[0]))
def test_any_ids_decode_as_recorded(tokenizer: Any, case: list[Any]) -> None:
    ids, _, without_special = case
    assert tokenizer.decode(ids) == without_special


def test_special_tokens_have_their_ids(tokenizer: Any) -> None:
    special = GOLDEN["meta"]["special"]
    assert {text: tokenizer.token_to_id(text) for text in special} == special
    assert tokenizer.get_vocab_size() == GOLDEN["meta"]["len"]


def test_a_token_that_no_single_merge_makes_is_reached(tmp_path: Path) -> None:
    """abcd is found over ab + cd only where both splits of every token are merges."""
    tokens = [*(bytes([b]) for b in range(256)), b"bc", b"ab", b"cd", b"abcd"]
    path = tmp_path / "ranks"
    path.write_text("".join(f"{base64.b64encode(t).decode()} {n}\n" for n, t in enumerate(tokens)))
    made = build(read_ranks(path), r"\S+|\s+", {"<end>": 260})
    assert made.encode("abcd").ids == [259]
    assert made.encode("abcde<end>").ids == [97, 256, 100, 101, 260]


@pytest.mark.parametrize("text", ["", "IQ== 0\nIg==", "IQ== 0\nIg== 2\n", "not base64! 0\n"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_text(text)
    with pytest.raises(BrokenCheckpoint, match=r"tokenizer\.model .*download the model again"):
        read_ranks(path)


def test_special_tokens_with_a_gap_are_told() -> None:
    with pytest.raises(BrokenCheckpoint, match="do not follow"):
        build({bytes([b]): b for b in range(256)}, r"\S+|\s+", {"<end>": 300})
