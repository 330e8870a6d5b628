"""`AutoTokenizer` on the folders of ChatGLM, with no code of theirs and no question asked."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from chatcli.runtime import ports

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"
PIECES = ("chatglm1", "chatglm2", "chatglm3")
FORGED = ("<sop>", "<eop>", "<unk>", "<pad>", "[MASK]")
"""What the first ChatGLM's own code took for control tokens in a person's text."""


@cache
def recorded(name: str, file: str = "golden_tokenizer.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name / file).read_text(encoding="utf-8"))
    return found


@cache
def opened(name: str, **settings: Any) -> Any:
    ports.register()
    return AutoTokenizer.from_pretrained(GOLDEN / name, **settings)


def strings(*names: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, case)
        for name in names
        for case in recorded(name)["strings"]
        if name != "chatglm1" or not any(mark in case["text"] for mark in FORGED)
    ]


@pytest.mark.parametrize(
    ("name", "case"), strings(*PIECES, "glm4"), ids=lambda v: repr(v["text"])[:20] if "text" in v else v
)
def test_text_with_the_marks_around_it(name: str, case: dict[str, Any]) -> None:
    tokenizer = opened(name)
    assert tokenizer(case["text"])["input_ids"] == case["ids"]
    assert tokenizer.encode(case["text"], add_special_tokens=False) == case["ids_no_special"]
    if name != "glm4":  # its slow original put spaces around special tokens
        if name != "chatglm2":  # whose own code named special tokens by nothing
            assert tokenizer.convert_ids_to_tokens(case["ids"]) == case["tokens"]
        assert tokenizer.decode(case["ids"]) == case["decode"]
    if "decode_skip_special" in case:
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["decode_skip_special"]


@pytest.mark.parametrize(("name", "case"), [(n, c) for n in PIECES for c in recorded(n)["decode_ids"]], ids=str)
def test_any_ids_decode_as_recorded(name: str, case: list[Any]) -> None:
    assert opened(name).decode(case[0]) == case[1]


@pytest.mark.parametrize("name", [*PIECES, "glm4"])
def test_a_batch_is_padded_on_the_left(name: str) -> None:
    told = recorded(name)["padded_batch"]
    made = opened(name)(told["texts"], padding=True)
    assert made["input_ids"] == told["input_ids"]
    # The first one's own code returned the whole mask of its attention; transformers asks for what is padding.
    pads = [[int(i != 3) for i in row] for row in told["input_ids"]]
    assert made["attention_mask"] == (pads if name == "chatglm1" else told["attention_mask"])


@pytest.mark.parametrize("name", PIECES)
def test_a_pair_of_texts(name: str) -> None:
    told = recorded(name)["pair"]
    assert opened(name)("你好", "世界")["input_ids"] == (told["input_ids"] if name == "chatglm1" else told)


def test_a_text_is_cut_before_the_marks() -> None:
    tokenizer = opened("chatglm1")
    assert [tokenizer("你好世界和平", truncation=True, max_length=6)["input_ids"]] == recorded("chatglm1")["truncated6"]
    assert tokenizer(["你好"], padding="max_length", max_length=8)["input_ids"] == [[3, 3, 3, 5, 41, 145, 517, 520]]


@pytest.mark.parametrize(
    "case", recorded("chatglm3", "golden.json")["build_chat_input"], ids=lambda case: case["query"][:9]
)
def test_build_chat_input(case: dict[str, Any]) -> None:
    made = opened("chatglm3").build_chat_input(case["query"], case["history"], case["role"])
    assert made["input_ids"].tolist() == case["input_ids"]
    assert made["attention_mask"].tolist() == case["attention_mask"]


@pytest.mark.parametrize(
    "case", recorded("chatglm3")["strings_encode_special_tokens"], ids=lambda case: case["text"][:9]
)
def test_roles_are_let_through_where_it_is_said(case: dict[str, Any]) -> None:
    tokenizer = opened("chatglm3", encode_special_tokens=True)
    assert tokenizer(case["text"])["input_ids"] == case["ids"]
    assert tokenizer.decode(case["ids"]) == case["decode"]


@pytest.mark.parametrize("name", [*PIECES, "glm4"])
def test_a_folder_with_nothing_but_published_files(name: str, tmp_path: Path) -> None:
    """transformers looks for files by parts of their names, and would take a recording of ours for a tokenizer."""
    for file in ("config.json", "tokenizer_config.json", "tokenizer.model", "ice_text.model"):
        if (GOLDEN / name / file).is_file():
            (tmp_path / file).write_bytes((GOLDEN / name / file).read_bytes())
    ports.register()
    case = recorded(name)["strings"][1]
    assert AutoTokenizer.from_pretrained(tmp_path)(case["text"])["input_ids"] == case["ids"]
