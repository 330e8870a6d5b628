"""ChatGLM's tokenizers, without torch, against what the original code recorded."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chatcli.errors import BrokenCheckpoint
from chatcli.models.chatglm import pieces, variant
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"
NAMES = ("chatglm1", "chatglm2", "chatglm3", "glm4")
# The original turned these texts of a person into control tokens; here they stay text.
FORGED = {
    "chatglm1": ("<sop>", "<eop>", "<unk>", "<pad>", "[MASK]"),
    "glm4": ("[gMASK]", "[MASK]", "<sop>", "<eop>", "<|"),
}


@cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name / "golden_tokenizer.json").read_text(encoding="utf-8"))
    return found


def strings(*, forged: bool) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, case)
        for name in NAMES
        for case in recorded(name)["strings"]
        if any(mark in case["text"] for mark in FORGED.get(name, ())) is forged
    ]


def shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value["text"])[:24]


@cache
def opened(name: str) -> Any:
    if name == "chatglm3":
        return pieces("chatglm3", GOLDEN / name, headers=False)
    return tokenizer(open_checkpoint(GOLDEN / name))


@pytest.mark.parametrize(("name", "case"), strings(forged=False), ids=shown)
def test_text_becomes_the_recorded_ids_and_back(name: str, case: dict[str, Any]) -> None:
    made = opened(name)
    encode = made.encode_text if name == "chatglm3" else lambda text: made.encode(text, add_special_tokens=False)
    assert encode(case["text"]).ids == case["ids_no_special"]
    decoded = made.decode(case["ids_no_special"], skip_special_tokens=False)
    if name == "chatglm1":  # transformers cleaned up spaces behind the tokenizer; see streaming/cleanup.py
        decoded = decoded.replace(" !", "!")
    assert decoded == case["decode_no_special_ids"]


@pytest.mark.parametrize("case", [case for name, case in strings(forged=True) if name == "chatglm1"], ids=shown)
def test_what_a_person_types_never_becomes_a_control_token(case: dict[str, Any]) -> None:
    made = opened("chatglm1")
    ids = made.encode(case["text"]).ids
    assert not set(ids) & set(made.get_added_tokens_decoder())
    assert made.decode(ids).split() == case["text"].split()


@pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n in NAMES for c in recorded(n)["decode_ids"]], ids=lambda v: str(v)[:30]
)
def test_any_ids_decode_as_recorded(name: str, case: list[Any]) -> None:
    if name == "glm4":
        assert opened(name).decode(case[0]) == case[2]
    else:
        assert opened(name).decode(case[0], skip_special_tokens=False).replace(" .", ".") == case[1]


@pytest.mark.parametrize("case", recorded("chatglm3")["strings_encode_special_tokens"], ids=shown)
def test_the_roles_of_chatglm3_are_tokens_where_a_template_writes_them(case: dict[str, Any]) -> None:
    made = opened("chatglm3")
    assert made.encode(case["text"]).ids == case["ids_no_special"]
    assert made.decode(case["ids_no_special"], skip_special_tokens=False) == case["decode_no_special_ids"]


@pytest.mark.parametrize("name", ["chatglm1", "chatglm2", "chatglm3"])
def test_special_tokens_and_unknown_ids_are_left_out(name: str) -> None:
    made = opened(name)
    ids = [*made.get_added_tokens_decoder(), *made.encode("你好").ids, 10**6, -1]
    assert made.decode(ids).strip() == "你好"
    assert made.token_to_id("nothing like it") is None
    assert made.id_to_token(10**6) is None


@pytest.mark.parametrize("name", NAMES)
def test_every_token_has_its_id(name: str) -> None:
    made, meta = opened(name), recorded(name)["meta"]
    special = meta.get("special", {"[MASK]": 516, "[gMASK]": 517, "<sop>": 520, "<eop>": 521})
    assert {text: made.token_to_id(text) for text in special} == special
    assert {made.id_to_token(number): number for number in special.values()} == special


@pytest.mark.parametrize("damage", [b"", b"no model"])
def test_a_damaged_file_is_told(tmp_path: Path, damage: bytes) -> None:
    for file in ("config.json", "tokenizer_config.json"):
        shutil.copy(GOLDEN / "chatglm1" / file, tmp_path)
    (tmp_path / "ice_text.model").write_bytes(damage)
    with pytest.raises(BrokenCheckpoint, match=r"ice_text\.model"):
        tokenizer(open_checkpoint(tmp_path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for name, file in (("chatglm1", "ice_text.model"), ("chatglm2", "tokenizer.model"), ("glm4", "tokenizer.model")):
        folder = tmp_path / name
        folder.mkdir()
        for small in ("config.json", "tokenizer_config.json"):
            shutil.copy(GOLDEN / name / small, folder)
        with pytest.raises(BrokenCheckpoint, match=f"{file} is missing"):
            tokenizer(open_checkpoint(folder))


def test_the_vocabulary_of_before_april_2023_is_told(tmp_path: Path) -> None:
    """Its file lacks the special tokens; ChatGLM2's stands for it here."""
    shutil.copy(GOLDEN / "chatglm1" / "config.json", tmp_path)
    shutil.copy(GOLDEN / "chatglm2" / "tokenizer.model", tmp_path / "ice_text.model")
    with pytest.raises(BrokenCheckpoint, match="April 2023"):
        tokenizer(open_checkpoint(tmp_path))


SETTINGS = "tokenizer_config.json"
V2: dict[str, Any] = {"model_type": "chatglm", "padded_vocab_size": 65024}


@pytest.mark.parametrize(
    ("config", "files", "name", "family"),
    [
        ({"model_type": "chatglm", "vocab_size": 130528}, {}, "chatglm2-6b", "chatglm"),
        (V2, {"tokenization_chatglm.py": "x = '<|observation|>'"}, "chatglm2-6b", "chatglm3"),
        (V2 | {"seq_length": 8192}, {"tokenization_chatglm.py": "x = 1"}, "mine", "chatglm2"),
        (V2 | {"_name_or_path": "THUDM/chatglm3-6b", "seq_length": 32768}, {}, "mine", "chatglm3"),
        (V2, {"tokenizer_config.json": '{"name_or_path": "THUDM/chatglm3-6b"}'}, "mine", "chatglm3"),
        # chatglm2-6b-int4 itself says so
        (V2 | {"seq_length": 32768}, {SETTINGS: '{"name_or_path": "THUDM/chatglm-6b"}'}, "mine", "chatglm2"),
        (V2 | {"seq_length": 8192}, {}, "someone/chatglm2-6b-tuned", "chatglm2"),
        (V2 | {"seq_length": 8192, "rotary_percent": 0.5}, {}, "mine", "codegeex2"),
        (V2 | {"seq_length": 8192}, {}, "THUDM/codegeex2-6b-int4", "codegeex2"),
        (V2 | {"seq_length": 8192}, {}, "mine", "chatglm3"),
        (V2 | {"seq_length": 32768}, {}, "mine", "chatglm2"),
        (V2 | {"padded_vocab_size": 151552, "rope_ratio": 500}, {}, "mine", "chatglm4"),
        (V2 | {"rope_ratio": 500}, {SETTINGS: '{"tokenizer_class": "ChatGLM4Tokenizer"}'}, "mine", "chatglm4"),
        (V2 | {"padded_vocab_size": 151552}, {}, "mine", "chatglm4-base"),
        (V2 | {"seq_length": 8192}, {"tokenizer_config.json": "no json"}, "mine", "chatglm3"),
    ],
)
def test_which_chatglm_a_folder_of_any_name_is(
    tmp_path: Path, config: dict[str, Any], files: dict[str, str], name: str, family: str
) -> None:
    for file, text in {"config.json": json.dumps(config), **files}.items():
        (tmp_path / file).write_text(text)
    assert variant(config, tmp_path, name) == family
    assert open_checkpoint(tmp_path, name).family == family
