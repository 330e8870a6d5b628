"""Talking to a port: the row's prompt in the family's own tokens, and the reply that the model itself generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_formula import HEADS, LLAMA, NAMES, WIDTH, make
from plain_formulas import loaded, write
from sentencepiece import SentencePieceProcessor
from sentencepiece_models import trained
from test_llama_like import INTERNLM2, PACKED

from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import open_local
from chatcli.generation import Finished, GenerationSettings, Progress, Text
from chatcli.models.checkpoint import open_checkpoint

ASKED = Conversation((Message("user", "Hello"), Message("assistant", "fine"), Message("user", "你好")))
CHATML = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n"
CHATML += "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
FUSED = 3 * WIDTH

# The folder's name, model_type, further keys, names of weights, control symbols, the prompt of `ASKED`.
CHATS: list[tuple[str, dict[str, Any], dict[str, str], str, str]] = [
    (
        "Baichuan2-7B-Chat",
        {"model_type": "baichuan", "z_loss_weight": 0, "max_position_embeddings": 512},
        PACKED,
        "<reserved_106>,<reserved_107>",
        "<reserved_106>Hello<reserved_107>fine<reserved_106>你好<reserved_107>",
    ),
    (
        "Baichuan-13B-Chat",
        {"model_type": "baichuan", "model_max_length": 512},
        PACKED,
        "<reserved_102>,<reserved_103>",
        "<reserved_102>Hello<reserved_103>fine<reserved_102>你好<reserved_103>",
    ),
    (
        "internlm2_5-7b-chat",
        {"model_type": "internlm2", "bias": False},
        INTERNLM2,
        "<|im_start|>,<|im_end|>",
        f"<s>{CHATML}",
    ),
    ("Yi-6B-Chat", {"model_type": "Yi"}, NAMES, "<|im_start|>,<|im_end|>", CHATML),
    (
        "Skywork-13B-Chat",
        {"model_type": "skywork"},
        NAMES,
        "[USER],[SEP],[BOT]",
        "<s>[USER]Hello[SEP][BOT]fine[SEP][USER]你好[SEP][BOT]",
    ),
]


def folder_of(parent: Path, name: str, keys: dict[str, Any], names: dict[str, str], control: str) -> Path:
    """A repository as published: weights, a SentencePiece model, a tokenizer class that only its code has."""
    folder = parent / name
    folder.mkdir()
    model = trained(dummy=False, control=control, defined="")
    (folder / "tokenizer.model").write_bytes(model)
    pieces = SentencePieceProcessor(model_proto=model)
    size = pieces.get_piece_size()
    settings = {
        "tokenizer_class": "OwnTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": "<s>", "eos_token": "</s>"}))
    config = {**LLAMA, "max_position_embeddings": 512, **keys, "vocab_size": size}
    if "model_max_length" in keys:
        del config["max_position_embeddings"]
    weights = make(names, fused=FUSED, groups=HEADS, vocabulary=size)
    unreadable = [n for n in range(size) if pieces.is_control(n) or pieces.is_byte(n) or pieces.is_unknown(n)]
    weights[f"{names['head']}.weight"][unreadable] = 0
    return write(folder, config, weights)


@pytest.mark.parametrize(("name", "keys", "names", "control", "prompt"), CHATS, ids=[chat[0] for chat in CHATS])
def test_chat(
    tmp_path: Path, name: str, keys: dict[str, Any], names: dict[str, str], control: str, prompt: str
) -> None:
    folder = folder_of(tmp_path, name, keys, names, control)
    plain = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = encoded(plain, prompt, [*control.split(","), "<s>", "</s>"])
    with torch.inference_mode():
        made = loaded(folder).generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, repetition_penalty=1.0)
    reply = made[0, len(ids) :].tolist()
    engine = open_local(open_checkpoint(folder), shipped(), lambda progress: None)
    greedy = GenerationSettings(temperature=0.0, max_new_tokens=12, repetition_penalty=1.0)
    events = list(engine.stream(ASKED, greedy))
    engine.close()
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.prompt_tokens == len(ids)
    assert any(isinstance(event, Progress) for event in events)
    text = "".join(event.text for event in events if isinstance(event, Text))
    assert text.strip() == plain.decode([each for each in reply if not plain.is_control(each)]).strip()


def encoded(plain: SentencePieceProcessor, prompt: str, control: list[str]) -> list[int]:
    """The prompt's ids: control symbols by their own, what lies between by SentencePiece."""
    found: list[int] = []
    while prompt:
        symbol = next((symbol for symbol in control if prompt.startswith(symbol)), "")
        if symbol:
            found.append(plain.piece_to_id(symbol))
            prompt = prompt.removeprefix(symbol)
            continue
        end = min((at for symbol in control if (at := prompt.find(symbol)) >= 0), default=len(prompt))
        found += plain.encode(prompt[:end])
        prompt = prompt[end:]
    return found
