"""tokenizer.model of the families: SentencePiece's own ids, special tokens around them, through AutoTokenizer too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from sentencepiece_models import trained

from chatcli.adapters.format import chat_format
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.errors import BrokenCheckpoint
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.pieces import PieceTokenizer
from chatcli.models.sentencepiece_file import tokenizer

ODD = [
    "",
    " ",
    "  two  spaces ",
    "\n\n\ttabs\r\n",
    "你好，世界 😀👩‍👩‍👧 \u200b\ufeff é é",
    "▁ it▁self",
    "<0x41> <s> </s>",
    "a" * 300,
    "\u202eright to left",
]
KINDS = [("bpe", True), ("bpe", False), ("unigram", True), ("unigram", False)]


def written(folder: Path, model: bytes, settings: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings or {}))
    return folder


def read(folder: Path, model: bytes, settings: dict[str, Any] | None = None) -> PieceTokenizer:
    found = tokenizer(written(folder, model, settings))
    assert found
    return found


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{'prefix' if kind[1] else 'bare'}")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Ours and SentencePiece itself."""
    model = trained(request.param[0], dummy=request.param[1])
    return read(tmp_path_factory.mktemp("pieces"), model), SentencePieceProcessor(model_proto=model)


@pytest.mark.parametrize("text", ODD)
def test_odd_texts(both: Any, text: str) -> None:
    ours, plain = both
    assert ours.encode_text(text).ids == plain.encode(text)
    assert ours.decode(plain.encode(text)) == plain.decode(plain.encode(text))


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_text(both: Any, text: str) -> None:
    ours, plain = both
    assert ours.encode_text(text).ids == plain.encode(text)


def test_special_tokens_cut_a_text_and_each_stretch_is_encoded_by_itself(both: Any) -> None:
    ours, plain = both
    ids = ours.encode("Hello</s>there you").ids
    assert ids == [*plain.encode("Hello"), plain.piece_to_id("</s>"), *plain.encode("there you")]
    spaced = plain.encode("x", out_type=str)[0].startswith("▁")
    assert ours.decode(ids) == ("Hello there you" if spaced else "Hellothere you")
    assert "</s>" in ours.decode(ids, skip_special_tokens=False)


def test_tokens_behind_the_pieces_have_the_ids_that_the_files_say(tmp_path: Path) -> None:
    size = SentencePieceProcessor(model_proto=trained()).get_piece_size()
    added = {"added_tokens_decoder": {str(size + 2): {"content": "<|im_start|>", "special": True}}}
    ours = read(tmp_path, trained(), {**added, "bos_token": {"content": "<s>"}, "pad_token": "<nowhere>"})
    assert ours.token_to_id("<|im_start|>") == size + 2
    assert ours.token_to_id("<nowhere>") is None
    assert ours.encode("<|im_start|>user").ids[0] == size + 2
    assert len(ours) == size + 3


def test_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match="calls token 5"):
        read(tmp_path, trained(), {"added_tokens_decoder": {"5": {"content": "<|im_start|>"}}})
    (tmp_path / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(BrokenCheckpoint, match="SentencePiece"):
        tokenizer(tmp_path)


def test_nobody_types_a_piece_that_ends_a_turn(tmp_path: Path) -> None:
    """`<eoh>` is an ordinary piece in the file, which SentencePiece would find in the words of a person."""
    folder = written(tmp_path / "internlm-chat-7b", trained(), {"tokenizer_class": "InternLMTokenizer"})
    template = "<s><|User|>:{{ messages[-1].content }}<eoh>\n<|Bot|>:"
    (folder / "chat_template.jinja").write_text(template)
    (folder / "config.json").write_text(json.dumps({"model_type": "internlm"}))
    checkpoint = open_checkpoint(folder)
    ours = read(folder, trained())
    chat = chat_format(checkpoint, ours, shipped())
    end = ours.token_to_id("<eoh>")
    ids = chat.encode(Conversation((Message("user", "Hello <eoh> </s> you"),)))
    assert ids.count(end) == 1
    assert ours.token_to_id("</s>") not in ids
    assert ours.decode(ids, skip_special_tokens=False) == "<s> <|User|>:Hello <eoh> </s> you<eoh>\n<|Bot|>:"


def test_headers_of_turns_are_joined_by_id(tmp_path: Path) -> None:
    """Baichuan's own code encodes each message by itself and puts the reserved ids between."""
    model = trained(defined="<reserved_106>,<reserved_107>,<_user>")
    ours, plain = read(tmp_path, model), SentencePieceProcessor(model_proto=model)
    user, assistant = plain.piece_to_id("<reserved_106>"), plain.piece_to_id("<reserved_107>")
    expected = [user, *plain.encode("Hello"), assistant, *plain.encode("fine")]
    assert ours.encode("<reserved_106>Hello<reserved_107>fine").ids == expected
    assert plain.encode("<reserved_106>Hello<reserved_107>fine") != expected
    assert ours.encode("<_user>Hello").ids == [plain.piece_to_id("<_user>"), *plain.encode("Hello")]


NAMES = ["BaichuanTokenizer", "BaiChuanTokenizer", "InternLMTokenizer", "InternLM2Tokenizer", "YiTokenizer"]
NAMES += ["OrionTokenizer", "SkyworkTokenizer", "TelechatTokenizer"]
TYPES = ["baichuan", "baichuan", "internlm", "internlm2", "Yi", "orion", "skywork", "telechat"]


@pytest.mark.parametrize(("name", "model_type"), list(zip(NAMES, TYPES, strict=True)))
def test_through_auto_tokenizer(tmp_path: Path, name: str, model_type: str) -> None:
    """No code of the folder runs, no question is asked, and the ids are those of SentencePiece."""
    from transformers import AutoTokenizer

    from chatcli.runtime import ports

    ports.register()
    module = f"tokenization_{model_type}"
    settings = {"auto_map": {"AutoTokenizer": [f"{module}.{name}", None]}, "tokenizer_class": name}
    folder = written(tmp_path, trained(), {**settings, "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    (folder / f"{module}.py").write_text("raise SystemExit('the code of a checkpoint ran')")
    (folder / "config.json").write_text(
        json.dumps({"model_type": model_type, "auto_map": {"AutoConfig": f"{module}.Config"}})
    )
    found = AutoTokenizer.from_pretrained(folder)
    plain = SentencePieceProcessor(model_proto=trained())
    assert type(found).__name__ == name
    assert found("Hello, 世界").input_ids == [1, *plain.encode("Hello, 世界")]
    assert found("Hello</s>").input_ids == [1, *plain.encode("Hello"), 2]
    assert found.decode([1, *plain.encode("Hello, 世界"), 2], skip_special_tokens=True) == "Hello, 世界"
    batch = found(["Hello", "Hello there"], add_special_tokens=False)
    assert batch.input_ids == [plain.encode("Hello"), plain.encode("Hello there")]


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("aquila", "GPT2Tokenizer"),
        ("minicpm", "LlamaTokenizer"),
        ("xverse", "PreTrainedTokenizerFast"),
        ("telechat", "BloomTokenizerFast"),
    ],
)
def test_families_with_tokenizers_that_transformers_has(tmp_path: Path, model_type: str, name: str) -> None:
    """They need none of ours: vocab.json and merges.txt, tokenizer.model, or tokenizer.json are read as ever."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer

    from chatcli.runtime import ports

    ports.register()
    vocabulary = {"<s>": 0, "</s>": 1, "H": 2, "i": 3, "Hi": 4, "Ġ": 5}
    if name == "GPT2Tokenizer":
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        (tmp_path / "merges.txt").write_text("#version: 0.2\nH i\n")
    elif name == "LlamaTokenizer":
        (tmp_path / "tokenizer.model").write_bytes(trained())
    else:
        own = Tokenizer(models.BPE(vocab=vocabulary, merges=[("H", "i")]))
        own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        own.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": name, "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": model_type, "auto_map": {"AutoConfig": "configuration_own.Config"}})
    )
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert found.decode(found("Hi", add_special_tokens=False).input_ids) == "Hi"
    assert found.convert_tokens_to_ids("</s>") == (2 if name == "LlamaTokenizer" else 1)
