import json

import pytest
from tokenizers import Tokenizer, models

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.vocabulary import chat_template, special_tokens, tokenizer


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    return Checkpoint("x", tmp_path, "", {"model_type": "llama"}, {})


def put(checkpoint: Checkpoint, name: str, value: object) -> None:
    (checkpoint.folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def test_special_tokens_come_from_all_files(checkpoint: Checkpoint) -> None:
    added = {"special": False, "content": "<think>"}
    put(checkpoint, "tokenizer_config.json", {
        "bos_token": None, "eos_token": {"content": "<|im_end|>", "lstrip": False},
        "additional_special_tokens": ["<|im_start|>"],
        "added_tokens_decoder": {
            "7": {"content": "<|endoftext|>", "special": True}, "8": added, "9": {"content": "  ", "special": False},
        },
    })  # fmt: skip
    put(checkpoint, "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</old>"})
    put(
        checkpoint,
        "tokenizer.json",
        {"added_tokens": [{"content": "<b>", "special": False}, {"content": "<x>", "special": True}]},
    )
    put(checkpoint, "added_tokens.json", {"<tool>": 12})
    found = special_tokens(checkpoint)
    assert found.named == {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    assert found.special == {"<s>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<x>"}
    assert found.added == {"<think>", "  ", "<b>", "<tool>"}


def test_added_tokens_steer_only_where_the_template_writes_them(checkpoint: Checkpoint) -> None:
    put(checkpoint, "added_tokens.json", {"<think>": 1, "<b>": 2, "  ": 3, "\n": 4, "end": 5})
    found = special_tokens(checkpoint)
    assert found.control("{% if a %}  <think>\n{% endif %}") == {"<think>"}


def test_no_files_mean_no_tokens(checkpoint: Checkpoint) -> None:
    found = special_tokens(checkpoint)
    assert (found.named, found.special, found.added) == ({}, frozenset(), frozenset())
    assert chat_template(checkpoint) is None
    assert tokenizer(checkpoint) is None


def test_template_files_have_an_order(checkpoint: Checkpoint) -> None:
    put(checkpoint, "tokenizer_config.json", {"chat_template": "CONFIG"})
    assert chat_template(checkpoint) == "CONFIG"
    put(checkpoint, "chat_template.json", {"chat_template": "JSON"})
    assert chat_template(checkpoint) == "JSON"
    put(checkpoint, "chat_template.jinja", "JINJA")
    assert chat_template(checkpoint) == "JINJA"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}], "D"),
        ([{"name": "rag", "template": "R"}], "R"),
        ([], None),
        ([{"name": "default"}, 3], None),
        (7, None),
    ],
)
def test_a_list_of_templates(checkpoint: Checkpoint, listed: object, expected: str | None) -> None:
    put(checkpoint, "tokenizer_config.json", {"chat_template": listed})
    assert chat_template(checkpoint) == expected


def test_the_tokenizer_is_read(checkpoint: Checkpoint) -> None:
    Tokenizer(models.WordLevel({"a": 0, "u": 1}, unk_token="u")).save(str(checkpoint.folder / "tokenizer.json"))
    loaded = tokenizer(checkpoint)
    assert loaded is not None
    assert loaded.encode("a").ids == [0]


@pytest.mark.parametrize("content", ["", "{", "{}", '{"version": "9", "model": 3}'])
def test_a_damaged_tokenizer_is_named(checkpoint: Checkpoint, content: str) -> None:
    put(checkpoint, "tokenizer.json", content)
    with pytest.raises(BrokenCheckpoint, match=r"tokenizer\.json is no usable tokenizer"):
        tokenizer(checkpoint)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_damaged_settings_are_named(checkpoint: Checkpoint, name: str) -> None:
    put(checkpoint, name, "{")
    with pytest.raises(BrokenCheckpoint, match=name):
        special_tokens(checkpoint)
