import json

import pytest
from tokenizers import Tokenizer, models

from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.vocabulary import chat_templates, special_tokens, tokenizer


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
    assert chat_templates(checkpoint) == ({}, "")
    assert tokenizer(checkpoint) is None


def test_template_files_have_an_order(checkpoint: Checkpoint) -> None:
    put(checkpoint, "processor_config.json", {"chat_template": "PROCESSOR"})
    assert chat_templates(checkpoint) == ({"default": "PROCESSOR"}, "processor_config.json")
    put(checkpoint, "chat_template.json", {"chat_template": "JSON"})
    assert chat_templates(checkpoint) == ({"default": "JSON"}, "chat_template.json")
    put(checkpoint, "tokenizer_config.json", {"chat_template": "CONFIG"})
    assert chat_templates(checkpoint) == ({"default": "CONFIG"}, "tokenizer_config.json")
    (checkpoint.folder / "additional_chat_templates").mkdir()
    put(checkpoint, "additional_chat_templates/rag.jinja", "R")
    assert chat_templates(checkpoint) == ({"rag": "R"}, "additional_chat_templates")
    put(checkpoint, "chat_template.jinja", "JINJA")
    assert chat_templates(checkpoint) == ({"default": "JINJA", "rag": "R"}, "chat_template.jinja")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (
            [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}],
            {"tool_use": "T", "default": "D"},
        ),
        ({"default": "D", "rag": "R"}, {"default": "D", "rag": "R"}),
        ([], {}),
        ([{"name": "default"}, 3], {}),
        (7, {}),
    ],
)
def test_a_list_of_templates(checkpoint: Checkpoint, listed: object, expected: dict[str, str]) -> None:
    put(checkpoint, "tokenizer_config.json", {"chat_template": listed})
    assert chat_templates(checkpoint)[0] == expected


def test_an_older_file_of_tokens_counts_as_transformers_counts_it(checkpoint: Checkpoint) -> None:
    put(checkpoint, "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</new>"})
    put(checkpoint, "tokenizer_config.json", {
        "eos_token": "</s>", "image_token": "<image>", "add_bos_token": True,
        "extra_special_tokens": {"audio_token": "<audio>"},
    })  # fmt: skip
    named = special_tokens(checkpoint).named
    assert named == {"bos_token": "<s>", "eos_token": "</new>", "image_token": "<image>", "audio_token": "<audio>"}
    assert special_tokens(checkpoint).special >= {"<image>", "<audio>"}


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
